"""Comparison across tokenizers: chance of the best pair is judged as such, and what is there is found."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import transect as ts
from planted import planted_store
from tiny import WORDS
from transect.cli.main import cli
from transect.errors import TransectError
from transect.numeric.permute import text_permutations
from transect.studies.compare.calibrated import calibrated

LENGTHS = [9, 12, 10, 8, 14, 9, 11, 8, 10, 13, 9, 12, 8, 8, 15, 9]


def test_the_best_of_many_pairs_of_unrelated_models_is_judged_at_its_level() -> None:
    """Texts differ in both models, each in its own way; tokens of one text are alike, so that a null
    of tokens would find what is not there."""
    rng = np.random.default_rng(0)
    hits, naive, runs, texts, k = 0, 0, 200, 16, 4

    def models(layers: int) -> list[np.ndarray]:
        effect = rng.standard_normal((layers, texts, 1, 5))
        return list((effect + 0.3 * rng.standard_normal((layers, texts, k, 5))).reshape(layers, texts * k, 5))

    which = [(i, 3 + j) for i in range(3) for j in range(4)]
    for _ in range(runs):
        clouds = models(3) + models(4)
        values = np.array(ts.measures.cka.values(clouds, which, None, k))
        order = text_permutations(texts, 39, rng)
        null = np.array(ts.measures.cka.null_values(clouds, which, order, k)).T
        score, threshold, p = calibrated(values, null)
        assert (score > 0) == (values.max() > threshold)
        hits += p <= 0.05
        naive += bool(values.max() > np.quantile(null[:, 0], 0.95))
    low, high = 0.05 - 3 * np.sqrt(0.05 * 0.95 / runs), 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert low < hits / runs < high
    assert naive / runs > 2 * high, "the largest against the chance of one pair is no test"


def test_a_score_is_nothing_at_chance_and_one_at_one() -> None:
    null = np.linspace(0, 0.5, 100)[:, None] * np.array([1.0, 0.5])
    score, threshold, p = calibrated(np.array([0.2, 1.0]), null)
    assert (score, p) == (1.0, pytest.approx(1 / 101))
    assert threshold == pytest.approx(0.48, abs=0.01)
    assert calibrated(np.array([threshold, 0.1]), null)[0] == 0


def cut(text: str, size: int) -> list[str]:
    """Words in pieces of at most `size` letters, each with the space before its word: ends of words agree."""
    words = [f" {w}" if k else w for k, w in enumerate(text.split())]
    return [w[k : k + size] for w in words for k in range(0, len(w), size)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ts.Store]:
    """A model of 4 layers, and one of 3 with another tokenizer whose last layer is the second of the first,
    rotated and embedded in more dimensions; and one of the same shape that has nothing to do with them."""
    at, rng = tmp_path_factory.mktemp("aligned"), np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, n)) for n in LENGTHS]
    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0][:5]

    def states(text: str, layer: int, seed: int) -> np.ndarray:
        own = np.random.default_rng([seed, layer, len(text)])
        return own.standard_normal((len(text) + 1, 5)) + own.standard_normal(5)

    def made(name: str, size: int, layers: list) -> ts.Store:
        tokens = [cut(text, size) for text in texts]
        ends = [np.cumsum([len(t) for t in row]) for row in tokens]
        points = {
            f"resid.{k}": [of(i, text)[e] for i, (text, e) in enumerate(zip(texts, ends, strict=True))]
            for k, of in enumerate(layers)
        }
        return ts.store_from_arrays(points, at / name, name, texts=texts, tokens=tokens)

    def layer(k: int, seed: int, width: int = 5):
        grow = np.eye(5, width)
        return lambda i, text: states(f"{text}{'x' * i}", k, seed + 1000 * i)[: len(text) + 1] @ grow

    copy = layer(2, 0)
    return {
        "wide": made("wide", 4, [layer(k, 0) for k in range(4)]),
        "copy": made("copy", 3, [layer(7, 1, 8), layer(8, 1, 8), lambda i, text: copy(i, text) @ turn]),
        "other": made("other", 3, [layer(k, 9, 8) for k in range(3)]),
    }


def test_a_rotated_copy_under_another_tokenizer_is_found(runs: dict[str, ts.Store], tmp_path) -> None:
    given = {"n": 60, "groups": 4, "workers": 1, "align": "prefix", "out": tmp_path}
    study = ts.studies.compare([runs["wide"], runs["copy"], runs["other"]], **given)
    found = {r["run2"]: r for r in study.tables["calibrated"]}
    best = found["copy"]
    assert (best["site"], best["site2"]) == ("resid.2", "resid.2")
    assert best["value"] == pytest.approx(1, abs=1e-5)
    assert best["calibrated"] == pytest.approx(1, abs=1e-4)
    assert best["p"] == pytest.approx(1 / 201)
    assert best["draws"] == 200
    assert found["other"]["value"] < 0.9
    assert found["other"]["calibrated"] < 0.3
    least = min(s.manifest["aligned"]["share"] for s in map(ts.open_store, (tmp_path / "aligned").iterdir()))
    for table in filter(len, study.tables.values()):
        assert {*table.column("aligned")} == {"prefix"}
        assert table.column("aligned_share") == pytest.approx(least)
    assert "most alike at resid.2 and resid.2" in study.findings[0]
    cross = study.tables["matrices"].where(kind="cross", run2="copy")
    assert len(cross) == 4 * 3
    assert any("need points of one width" in w for w in study.warnings)
    assert any("have no layers that correspond" in w for w in study.warnings)


def test_the_command_aligns(runs: dict[str, ts.Store], tmp_path) -> None:
    command = ["compare", str(runs["wide"].path), str(runs["copy"].path), "--out", str(tmp_path / "o")]
    command += ["--measures", "cka", "--n", "60", "--groups", "4", "--workers", "1", "--formats", "png"]
    refused = CliRunner().invoke(cli, command)
    assert isinstance(refused.exception, TransectError)
    assert "--align prefix" in refused.exception.fix
    done = CliRunner().invoke(cli, [*command, "--align", "word", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert {r["aligned"] for r in rows} == {"word"}
    assert ts.Study.load(tmp_path / "o").tables["calibrated"].values("site2") == ["resid.2"]


@pytest.mark.fault(
    "bad input",
    "a comparison of tokenizers that agree on too little",
    "refused with the share that was found; no study is written",
)
def test_too_small_a_share_is_refused(runs: dict[str, ts.Store], tmp_path) -> None:
    with pytest.raises(TransectError, match="at least 95% must"):
        ts.studies.compare(
            [runs["wide"], runs["copy"]], align="prefix", least_aligned=0.95, out=tmp_path / "o", workers=1
        )
    assert not (tmp_path / "o").exists()
    with pytest.raises(TransectError, match="Give out=FOLDER"):
        ts.studies.compare([runs["wide"], runs["copy"]], align="prefix", workers=1)
    planted = planted_store(tmp_path / "p", [np.ones((8, 2))], [4, 4])
    with pytest.raises(TransectError, match="different texts"):
        ts.studies.compare([runs["wide"], planted], align="prefix", out=tmp_path / "o", workers=1)
