"""Steering along planted manifolds: a line, where curve and chord are one move; a circle, whose chord leaves
it by its sagitta; a label that means nothing."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import spearmanr

import transect as ts
from planted import planted_store
from tiny import tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.results.drawing import draw
from transect.studies.manifold import intervene as intervention
from transect.studies.manifold import steer as steering
from transect.studies.manifold.paths import FRACTIONS, Classes, classes_of, held_out, ways
from transect.studies.manifold.plan import MapJob
from transect.studies.manifold.question import Moving
from transect.studies.manifold.steer import GAP, Telling, effects, hellinger, related, steer
from transect.texts.sets import MONTHS

EVERY = 8  # texts of each class
CIRCLE, LINE = (("circle", '{"period": 12.0}'),), (("line", "{}"),)
RADIUS = 5.0


def store_of(folder: Path, points: np.ndarray, y: np.ndarray, noise: float = 0.0) -> ts.Store:
    """Texts of two tokens, the second at the point of its label, in 32 axes; groups `fold` of texts."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(len(y), 2, 32))
    X[:, 1] = points + noise * rng.normal(size=(len(y), 32))
    labels = {"y": y.tolist(), "fold": (np.arange(len(y)) // 12 % 4).tolist()}
    return planted_store(folder, [X.reshape(-1, 32)], [2] * len(y), labels=labels)


def ring(y: np.ndarray) -> np.ndarray:
    """A circle of radius 5 in two tilted axes of 32, off the origin."""
    plane = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 2)))[0].T
    angle = 2 * np.pi * y / 12
    return RADIUS * np.column_stack([np.cos(angle), np.sin(angle)]) @ plane + 2.0


def job_of(store: ts.Store, shape: tuple[tuple[str, str], ...], group: str | None = None) -> MapJob:
    return MapJob(str(store.path), store.fingerprint, (), ("y",), group, shape, permutations=0)


@pytest.mark.parametrize("group", [None, "fold"])
def test_a_chord_leaves_a_circle_by_its_sagitta_and_the_arc_does_not(
    tmp_path: Path, group: str | None
) -> None:
    """r (1 − cos(half angle)) at the middle of a quarter turn; a step is 2 r sin(π / 12)."""
    y = np.tile(np.arange(12.0), EVERY)
    store = store_of(tmp_path / "s", ring(y), y)
    found = ways(store, job_of(store, CIRCLE, group), "resid.0", "last", 3.0)
    assert found.step == pytest.approx(2 * RADIUS * np.sin(np.pi / 12))
    sagitta = RADIUS * (1 - np.cos(np.pi / 4)) / found.step
    middle = 1 + FRACTIONS.index(0.5)
    np.testing.assert_allclose(found.off["line"][middle], sagitta, rtol=5e-3)
    assert found.off["manifold"].max() < 2e-3
    np.testing.assert_allclose(found.off["line"][-1], 0, atol=1e-9)
    size = np.linalg.norm(found.deltas["line"], axis=2)
    for path in ("random", "covariance"):
        np.testing.assert_allclose(found.sizes(path), found.sizes("manifold"))
    np.testing.assert_allclose(size[-1], 2 * RADIUS * np.sin(np.pi / 4))
    ideal = np.sqrt(RADIUS**2 + size[-1][0] ** 2) - RADIUS  # a direction off the plane: up from the circle
    assert found.off["random"][-1].mean() * found.step > ideal / 2


def test_a_curve_through_a_line_is_the_line_and_moves_alike(tmp_path: Path) -> None:
    y = np.tile(np.arange(8.0), EVERY)
    store = store_of(tmp_path / "s", np.outer(y, np.arange(32.0) - 9) + 1, y)
    found = ways(store, job_of(store, LINE), "resid.0", "last", 2.0)
    np.testing.assert_allclose(found.deltas["manifold"], found.deltas["line"], atol=1e-8)
    assert max(found.off[path].max() for path in ("manifold", "line")) < 1e-9
    begin = found.ends - y[found.texts]
    assert set(begin.tolist()) == {2.0, -2.0}  # labels do not come round: the last two go back
    assert (found.ends <= 7).all()
    felt = {path: [{"kl": 3 * size} for size in found.sizes(path)] for path in found.deltas}
    rows = effects(felt, found)
    assert all(r["per_step"] == pytest.approx(0 if r["path"] == GAP else 3) for r in rows)
    assert [r["value"] for r in rows if r["path"] == "line"] == pytest.approx([1.5, 3, 4.5, 6])


def test_held_out_texts_judge_and_others_make_the_curve(tmp_path: Path) -> None:
    """Where held-out texts stand elsewhere, their own curve is the manifold; units are groups."""
    y = np.tile(np.arange(12.0), EVERY)
    points = ring(y)
    store = store_of(tmp_path / "a", points, y)
    job = job_of(store, CIRCLE, "fold")
    held = held_out(classes_of(store, job), store.label("fold"), job.folds, job.seed)
    groups = set(store.label("fold")[held].tolist())
    assert not groups & set(store.label("fold")[np.setdiff1d(np.arange(len(y)), held)].tolist())
    points[held] = 2 * points[held]
    wide = ways(store_of(tmp_path / "b", points, y), job, "resid.0", "last", 3.0)
    assert wide.step == pytest.approx(4 * RADIUS * np.sin(np.pi / 12))
    np.testing.assert_allclose(wide.off["manifold"] * wide.step, RADIUS, rtol=2e-3)  # the smaller circle
    np.testing.assert_allclose(np.linalg.norm(wide.deltas["line"][-1], axis=1), RADIUS * np.sqrt(2))
    assert set(wide.units.tolist()) == groups


def test_many_label_values_are_classed_with_their_neighbours(tmp_path: Path) -> None:
    y = np.random.default_rng(2).permutation(np.arange(360) / 30)
    store = store_of(tmp_path / "s", ring(y), y)
    classes = classes_of(store, job_of(store, CIRCLE))
    assert len(classes.values) == 12
    np.testing.assert_allclose(classes.values, np.arange(12) + 0.5, atol=0.02)
    assert (np.abs(classes.labels - classes.values[classes.of]) < 0.52).all()


def test_measures_of_the_next_token_are_those_of_the_formulas() -> None:
    p, q = np.log([[0.5, 0.3, 0.2]]), np.log([[0.2, 0.6, 0.2]])
    told = Telling(p, np.array([0]), np.array([1]), np.array([2]))(q)
    assert told["kl"] == pytest.approx(0.5 * np.log(0.5 / 0.2) + 0.3 * np.log(0.3 / 0.6))
    assert told["label_shift"] == pytest.approx(np.log(0.5 / 0.2))
    assert told["between_shift"] == pytest.approx(np.log(2) - np.log(0.2 / 0.5) / 2)
    assert set(Telling(p, *[np.empty(0, int)] * 3)(q)) == {"kl"}
    assert hellinger(np.eye(3))[0].tolist() == [0, 1, 1]
    assert hellinger(np.exp([p[0], q[0]]))[0, 1] == pytest.approx(
        np.sqrt(1 - np.sqrt(0.1) - np.sqrt(0.18) - 0.2), abs=1e-9
    )


def test_outputs_that_lie_as_states_do_are_found_and_others_are_not() -> None:
    """Laws at the places of a ring: the arc's ranks are theirs. Unrelated ones: p ≤ 0.05 in 5 % of tries."""
    rng, k = np.random.default_rng(3), 9
    gap = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    arc = np.minimum(gap, k - gap).astype(float)
    draws = [rng.permutation(k) for _ in range(39)]
    found, rows = [], []
    for _ in range(40):
        noise = rng.random((k, k))
        rows = related(np.sqrt(arc), {"manifold": arc, "line": noise + noise.T}, draws)
        found.append(rows[1]["p"])
    assert np.mean(np.array(found) <= 0.05) < 0.15
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)
    assert rows[0]["value"] == pytest.approx(1)
    assert rows[0]["p"] == pytest.approx(1 / 40)
    pairs = np.triu_indices(k, 1)
    moved = [spearmanr(arc[np.ix_(d, d)][pairs], arc[pairs]).statistic for d in draws]
    assert rows[0]["null"] == pytest.approx(np.mean(moved))  # classes move whole, with both of their sides
    assert rows[2]["path"] == GAP
    assert rows[2]["value"] == pytest.approx(1 - rows[1]["value"])
    (few,) = related(arc[:4, :4], {"manifold": arc[:4, :4]}, draws)
    assert "needs 5" in few["status"]


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """Months in sentences through a tiny model of random weights, and a label that has nothing to do with
    them."""
    home = tmp_path_factory.mktemp("steering")
    words = tiny_tokenizer()
    words.add_tokens([f" {m}" for m in MONTHS])  # a token each, as large vocabularies have them
    tiny_model("llama", vocab_size=len(words)).save_pretrained(home / "model")
    words.save_pretrained(home / "model")
    choices = [{"month": m, "labels": {"month": k}} for k, m in enumerate(MONTHS, 1)]
    slots = {"name": ["Anna", "Al", "Bo", "Eve", "Kim", "Lea", "Max", "Tim"], "month": choices}
    sets = {"templates": ["{name} came in {month}. {name} left."], "slots": slots, "repeats": True}
    (home / "sets.json").write_text(json.dumps(sets | {"landmarks": {"left": "left"}}))
    texts = ts.open_texts(f"template:{home / 'sets.json'}", n=96, seed=2)
    texts.labels["y"] = np.random.default_rng(5).permutation(np.arange(96) % 12).tolist()
    return ts.capture(ts.open_model(home / "model"), texts, home / "s", sites=["resid"])


def test_a_label_without_effect_has_none(captured: ts.Store) -> None:
    """Permuted labels: by the difference of their class means the target's log-odds rise no more than by
    any, and outputs of classes have no geometry."""
    job = MapJob(str(captured.path), captured.content, (), ("y",), None, LINE, permutations=0)
    table = ts.Table(steer(Moving(job, "resid.1", "landmark:month", 2.0, prompt="")))
    assert set(table.values("measure")) == {"kl", "off_manifold", "output_geometry"}
    shared = next(iter(table.where(measure="output_geometry", path="line")))
    assert shared["null_low"] < shared["value"] < shared["null_high"]
    for row in table.where(measure="kl", path=GAP, fraction=1.0):
        assert row["value"] == pytest.approx(0, abs=1e-9)  # both ways end in the same state


def test_excess_of_a_label_without_effect_covers_nothing() -> None:
    """Effects of a move drawn as those of random directions are: intervals hold 0 in 95 % of tries."""
    from transect.studies.manifold.steer import _row

    rng, units = np.random.default_rng(0), np.repeat(np.arange(12), 3)
    drawn = [{"manifold": rng.normal(size=36), "random": rng.normal(size=36)} for _ in range(200)]
    ends = [
        (row["corrected_low"], row["corrected_high"]) for row in (_row(d, "manifold", units) for d in drawn)
    ]
    assert 0.90 <= np.mean([low < 0 < high for low, high in ends]) <= 0.99


def test_a_study_steers_beside_its_map(captured: ts.Store) -> None:
    given = {"label": "month", "tokens": ["landmark:month", "landmark:left"], "at": "month", "workers": 1}
    study = ts.studies.manifold(captured, permutations=9, repeats=1, steer=True, **given)
    table = study.tables["steering"].where(status="ok")
    assert set(table.values("path")) == {"manifold", "line", "random", "covariance", GAP}
    told = {"label_shift", "between_shift", "kl", "off_manifold", "output_geometry"}
    assert told == set(table.values("measure"))
    site = table.values("site")[0]
    kl = table.where(measure="kl", site=site)
    assert (kl.where(path="manifold").column("value") > 0).all()
    ends = [kl.where(path=path, fraction=1.0).column("value")[0] for path in ("manifold", "line")]
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
    (gap,) = table.where(measure="off_manifold", site=site, path=GAP, fraction=0.5)
    assert gap["high"] < 0  # months are other words: the line between two passes by those between
    said = " ".join(study.findings)
    assert "on the straight line" in said
    assert "lie as their states do" in said
    assert "a step moved on the manifold" in said
    (figure,) = [f for f in study.figures if f.kind == "manifold_steering"]
    canvas = draw(study, figure)
    shown = [len(ax.get_lines()) for ax in canvas.axes]
    plt.close(canvas)
    assert len(shown) == 5


@pytest.mark.fault(
    "bad luck",
    "a study that moves texts stops between two sites",
    "`out` holds the rows of the sites that are done",
    "run it again: their texts are not moved again",
)
def test_moved_sites_are_kept(captured: ts.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the sites fails; a second call moves the texts of no other."""
    given: dict[str, Any] = {"label": "month", "tokens": ["landmark:month"], "workers": 1, "out": tmp_path}
    given |= {"permutations": 9, "repeats": 1, "folds": 2, "sites": "resid.0,resid.1,resid.2"}
    moved: list[str] = []
    broken: set[str] = set()
    for module, way in ((steering, {"steer": True}), (intervention, {"intervene": True})):
        plain = module.next_token

        def counted(model: Any, ids: Any, move: Any = None, plain: Any = plain) -> np.ndarray:
            moved.append(move[0] if move else "")
            if move and move[0] in broken:
                raise KeyboardInterrupt
            return plain(model, ids, move)

        monkeypatch.setattr(module, "next_token", counted)
        broken.add("resid.2")
        with pytest.raises(KeyboardInterrupt):
            ts.studies.manifold(captured, **given, **way)
        broken.clear()
        moved.clear()
        study = ts.studies.manifold(captured, **given, **way)
        assert set(moved) == {"", "resid.2"}
        (table,) = [study.tables[k] for k in ("steering", "intervention") if k in study.tables]
        assert {"resid.1", "resid.2"} <= set(table.values("site"))


@pytest.mark.fault(
    "bad input", "steering along labels that no curve leads through", "refused, or a row says why"
)
def test_moves_that_cannot_be(tmp_path: Path) -> None:
    y = np.tile(np.arange(12.0), EVERY)
    store = store_of(tmp_path / "s", ring(y), y)
    with pytest.raises(TransectError, match="comes back"):
        ways(store, job_of(store, CIRCLE), "resid.0", "last", 12.0)
    with pytest.raises(TransectError, match="stays among"):
        ways(store, job_of(store, LINE), "resid.0", "last", 20.0)
    words = Classes(np.arange(2.0), np.array([0, 0, 1]), np.array([0.0, 0.0, 1.0]), None)
    with pytest.raises(TransectError, match="label value 1"):
        held_out(words, None, 2, 0)
