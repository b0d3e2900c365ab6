"""Sweeps over stores whose geometry is planted: values, nulls, intervals and reasons."""

import sys
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from transect.errors import TransectError
from transect.inference.draws import draw
from transect.measures.contract import REGISTRY, Measure, measure
from transect.results.table import Table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """Layers 0 and 1 equal up to a shift of (3, 0, …); layer 2 unrelated and twice as wide-spread; layer 3 as
    layer 2."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(30 * 20, 5)) * [4, 2, 1, 1, 0.5] + 7
    other = rng.normal(size=base.shape) * 3
    layers = [base, base + np.eye(5)[0] * 3, other, other.copy()]
    return planted_store(tmp_path_factory.mktemp("s") / "store", layers, [20] * 30)


def row(table: Table, site: str, site2: str | None = None) -> dict:
    return next(r for r in table if r["site"] == site and r["site2"] == site2)


def test_a_planted_shift_is_measured_against_its_null(store: ts.Store) -> None:
    table = ts.sweep("wasserstein", store, n=90, design="paired", workers=1)
    assert [(r["site"], r["site2"]) for r in table] == [
        ("resid.0", "resid.1"),
        ("resid.1", "resid.2"),
        ("resid.2", "resid.3"),
    ]
    shift, far, none = table
    assert shift["value"] == pytest.approx(9, rel=1e-6), "the same tokens, moved by 3"
    assert none["value"] == pytest.approx(0, abs=1e-8)
    assert shift["null"] is None, "the same tokens at both sites have no split-half null"
    assert far["value"] > 10
    assert shift["low"] <= shift["value"] <= shift["high"]
    shown = ("n", "n_texts", "tokens_a_text", "design", "position0", "control")
    assert tuple(shift[k] for k in shown) == (90, 30, 3, "paired", "dropped", "none")
    apart = ts.sweep("wasserstein", store, n=100, workers=1)
    assert row(apart, "resid.0", "resid.1")["null"] > 1, "two samples of one law are apart"
    assert row(apart, "resid.0", "resid.1")["corrected"] == pytest.approx(9, abs=3)
    same = row(apart, "resid.2", "resid.3")
    assert same["corrected_low"] - 0.5 < 0 < same["corrected_high"] + 0.5, "no drift: the excess is about 0"


def test_permuted_texts_and_p(store: ts.Store) -> None:
    table = ts.sweep(
        "cosine",
        store,
        pairs=[("resid.0", "resid.1"), ("resid.0", "resid.2")],
        permutations=99,
        n=100,
        workers=1,
    )
    close, unrelated = table
    assert close["p"] == pytest.approx(1 / 100)
    assert close["family"] == 2
    assert close["control"] == "permuted texts"
    assert unrelated["p"] > 0.05
    assert close["corrected"] == pytest.approx((close["value"] - close["null"]) / (1 - close["null"]))


def test_the_corrected_interval_has_the_variation_of_its_null(store: ts.Store) -> None:
    """Fisher's z of the corrected value ± t·√(spread² + that of the mean of a null of 5 draws); each group of
    texts is left out of value and null."""
    from scipy.stats import t

    (found,) = ts.sweep("cosine", store, pairs=[("resid.0", "resid.1")], permutations=5, n=100, workers=1)
    null = np.array(found["null_draws"])
    z, G, error = (
        np.arctanh(found["corrected_replicates"]),
        len(found["replicates"]),
        null.std(ddof=1) / np.sqrt(5),
    )
    centre = np.arctanh(found["corrected"])
    more = max(abs(np.arctanh(found["corrected"] + s * error) - centre) for s in (-1, 1))
    half = t.ppf(0.975, G - 1) * np.sqrt((G - 1) / G * ((z - z.mean()) ** 2).sum() + more**2)
    assert found["corrected_low"] == pytest.approx(np.tanh(centre - half))
    assert found["corrected_high"] == pytest.approx(np.tanh(centre + half))
    still = (np.array(found["replicates"]) - null.mean()) / (1 - null.mean())
    assert not np.allclose(found["corrected_replicates"], still)
    (dear,) = ts.sweep("procrustes", store, pairs=[("resid.0", "resid.1")], permutations=5, n=100, workers=1)
    assert np.allclose(dear["corrected_replicates"], np.mean(dear["null_draws"]) - dear["replicates"])


def test_the_null_of_a_pair_is_the_mean_of_its_two_sites(store: ts.Store) -> None:
    rows = list(ts.sweep("centroid", store, n=100, workers=1))
    assert any(r["null_site"] != r["null_site2"] for r in rows)
    for found in rows:
        assert found["null"] == pytest.approx((found["null_site"] + found["null_site2"]) / 2)


def test_the_excess_without_a_group_is_over_the_null_without_it(store: ts.Store) -> None:
    """Centroids of two sites from texts of either half, less the mean distance of the halves at each site."""
    (found,) = ts.sweep("centroid", store, pairs=[("resid.0", "resid.2")], n=100, groups=5, workers=1)
    chosen = store.select("all", False)
    d = draw(chosen, n=100, groups=5, seed=0, halves=True)
    wanted = []
    for g in range(d.groups):
        means = {}
        for half in "ab":
            texts = d.members(half)
            rows = chosen.subset(d.rows[texts[d.group[texts] != g]].ravel())
            means |= {(s, half): store.take(f"resid.{s}", rows).mean(axis=0) for s in (0, 2)}
        apart = lambda a, b: np.linalg.norm(means[a] - means[b])  # noqa: B023, E731
        floor = (apart((0, "a"), (0, "b")) + apart((2, "a"), (2, "b"))) / 2
        wanted.append(apart((0, "a"), (2, "b")) - floor)
    np.testing.assert_allclose(found["corrected_replicates"], wanted, rtol=1e-4)


def test_views_that_agree_have_a_small_p_whatever_the_direction_of_the_measure(store: ts.Store) -> None:
    """Distance 0 between a site and its copy, far below the null; a similarity of 1, far above it."""
    for name in ("procrustes", "cka"):
        (found,) = ts.sweep(name, store, pairs=[("resid.0", "resid.1")], permutations=19, n=100, workers=1)
        assert found["p"] == pytest.approx(1 / 20)


def test_one_cloud_and_its_column_shuffle(store: ts.Store) -> None:
    table = ts.sweep("participation_ratio", store, n=100, workers=1, permutations=5)
    assert len(table) == 4
    lam = np.array([16, 4, 1, 1, 0.25])
    assert row(table, "resid.0")["value"] == pytest.approx(lam.sum() ** 2 / (lam**2).sum(), rel=0.25)
    assert row(table, "resid.0")["n"] == 90


def test_the_null_of_one_cloud_breaks_relations_between_dimensions(tmp_path: Path) -> None:
    """One direction in 5 equal dimensions: 1 of them is filled; with every column in an order of its own,
    nearly 5."""
    line = np.random.default_rng(1).normal(size=(30 * 8, 1)) @ np.ones((1, 5))
    made = planted_store(tmp_path / "line", [line + 3], [8] * 30)
    found = row(ts.sweep("participation_ratio", made, n=70, workers=1, permutations=3), "resid.0")
    assert found["value"] == pytest.approx(1, abs=1e-6)
    assert found["null"] > 4.2, "5 less what few texts leave in common by chance"


def test_kept_blocks_of_another_seed_are_not_taken(store: ts.Store, tmp_path: Path) -> None:
    given = {"n": 60, "groups": 5, "permutations": 3, "workers": 1}
    first, second = (ts.sweep("cka", store, out=tmp_path, seed=s, **given) for s in (0, 1))
    assert second.arrow.equals(ts.sweep("cka", store, seed=1, **given).arrow)
    assert not np.array_equal(first.column("value"), second.column("value"))


def test_corrected_by_hand() -> None:
    """Distances grow with drift, paired ones shrink below their shuffled null, similarities are scaled to 1
    on themselves."""
    from transect.inference.rows import corrected
    from transect.measures.registry import find

    assert corrected(find("wasserstein"), 7.0, 2.0) == 5
    assert corrected(find("euclidean"), 2.0, 7.0) == 5
    assert corrected(find("cka"), 0.55, 0.1) == pytest.approx(0.5)
    assert corrected(find("participation_ratio"), 3.0, 4.5) == -1.5


def test_a_replicate_leaves_one_group_out(tmp_path: Path) -> None:
    """Norms are 1 in half of the texts and 2 in the others: leaving out a tenth moves their mean by at most
    0.5 / 9."""
    norms = np.repeat(np.arange(40) % 2 + 1.0, 8)[:, None]
    made = planted_store(tmp_path / "norms", [norms * np.eye(3)[0]], [8] * 40)
    found = row(ts.sweep("mean_norm", made, n=100, groups=10, workers=1, permutations=0), "resid.0")
    away = np.abs(np.array(found["replicates"]) - found["value"])
    assert len(away) == 10
    assert 0 < away.max() <= max(found["value"] - 1, 2 - found["value"]) / 9 + 1e-9


def test_workers_resume_and_fast_path_give_the_same_numbers(
    store: ts.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"pairs": "all", "n": 60, "groups": 5}
    serial = ts.sweep(["sinkhorn", "bures"], store, workers=1, **options)
    pooled = ts.sweep(["sinkhorn", "bures"], store, workers=2, out=tmp_path, **options)
    for name in ("value", "low", "high", "null", "corrected"):
        assert np.allclose(serial.column(name), pooled.column(name), rtol=1e-5, atol=1e-5, equal_nan=True)
    kept = sorted((tmp_path / "cells").iterdir())
    kept[0].unlink()
    again = ts.sweep(["sinkhorn", "bures"], store, workers=2, out=tmp_path, **options)
    assert again.arrow.equals(pooled.arrow)
    monkeypatch.setattr(
        sys.modules["transect.inference.asks"], "_run", lambda *_: pytest.fail("computed again")
    )  # everything is there: nothing may be computed
    for workers in (2, 1):  # whoever asks cuts the same blocks
        assert ts.sweep(["sinkhorn", "bures"], store, workers=workers, out=tmp_path, **options).arrow.equals(
            pooled.arrow
        )


def test_unit_norm_and_one_basis(store: ts.Store) -> None:
    unit = ts.sweep("mean_norm", store, normalise="unit", n=100, workers=1)
    assert np.allclose(unit.column("value"), 1)
    full = ts.sweep("wasserstein", store, n=60, workers=1)
    all_axes = ts.sweep("wasserstein", store, n=60, pca=5, workers=1)
    assert np.allclose(full.column("value"), all_axes.column("value"), rtol=1e-4, atol=1e-5), (
        "a full basis is a rotation"
    )
    one = ts.sweep("wasserstein", store, n=60, pca=1, workers=1)
    assert (one.column("value") <= full.column("value") + 1e-6).all()
    assert next(iter(one))["pca"] == 1


def test_a_failing_cell_is_a_row_with_its_reason(store: ts.Store) -> None:
    @measure(source="test", itself=0.0)
    def picky(X: np.ndarray, Y: np.ndarray) -> float:
        """Fails on widely spread clouds."""
        if Y.std() > 2.9 and abs(Y.mean()) < 3:
            raise TransectError("picky: too wide.")
        return 1.0

    try:
        table = ts.sweep("picky", store, n=60, workers=1)
        assert row(table, "resid.0", "resid.1")["status"] == "ok"
        bad = row(table, "resid.1", "resid.2")
        assert bad["status"] == "picky: too wide."
        assert bad["value"] is None
        assert np.isnan(table.column("value")[1])
    finally:
        REGISTRY.pop("picky")


def test_unconverged_is_flagged(store: ts.Store) -> None:
    table = ts.sweep("sinkhorn", store, n=60, epsilon=0.001, max_iter=3, tol=1e-6, workers=1)
    assert table.column("status")[1].startswith("not converged: marginal error")
    assert np.isnan(table.column("value")[1]), "an unconverged divergence is no number"
    assert "sinkhorn_converged" in table.columns


def test_labels(store: ts.Store, tmp_path: Path) -> None:
    @measure(source="test")
    def spread(X: np.ndarray, y: np.ndarray) -> float:
        """Distance of the class means, in activation units, ≥ 0."""
        return float(np.linalg.norm(X[y == 1].mean(0) - X[y == 0].mean(0)))

    try:
        table = ts.sweep("spread", store, label="odd", n=100, workers=1)
        assert {r["control"] for r in table} == {"permuted labels"}
        assert all(r["null"] > 0 for r in table)
        X = np.random.default_rng(3).normal(size=(600, 5))
        X += 9 * np.repeat(np.arange(30) % 2, 20)[:, None]  # by the label "odd" of the texts
        far = planted_store(tmp_path / "far", [X], [20] * 30)
        (found,) = ts.sweep("spread", far, label="odd", permutations=19, n=100, workers=1)
        assert found["value"] == pytest.approx(9 * np.sqrt(5), rel=0.05)
        assert found["p"] == pytest.approx(1 / 20), "permuted labels hold classes less apart"
        assert found["null"] < found["value"] / 2
        with pytest.raises(TransectError, match="needs labels"):
            ts.sweep("spread", store)
    finally:
        REGISTRY.pop("spread")


def test_across_runs_of_the_same_tokens(store: ts.Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    other = planted_store(
        tmp_path / "other", [rng.normal(size=(600, 5)) for _ in range(4)], [20] * 30, name="other"
    )
    table = ts.sweep("cosine", [store, other], pairs="same", n=100, workers=1)
    assert {(r["run"], r["run2"]) for r in table} == {("planted", "other")}
    assert (np.abs(table.column("corrected")) < 0.3).all()
    assert (
        len(ts.sweep("cosine", [store, other], pairs="cross", n=60, workers=1, permutations=3, groups=3))
        == 16
    )
    alien = planted_store(
        tmp_path / "alien", [rng.normal(size=(600, 5))] * 4, [20] * 30, token=9, name="alien"
    )
    with pytest.raises(TransectError, match="hold different tokens"):
        ts.sweep("cosine", [store, alien], pairs="same")


def test_users_mistakes(store: ts.Store) -> None:
    for call, words in (
        ({"measure": "ckaa"}, "no measure 'ckaa'"),
        ({"measure": "cosine", "pairs": "some"}, "pairs='some'"),
        ({"measure": "cosine", "design": "disjoint"}, "same tokens at two sites"),
        ({"measure": "cosine", "epsilon": 3}, "no option epsilon"),
        ({"measure": "cosine", "n": 10**6}, "Choose n up to"),
        ({"measure": "cosine", "normalise": "max"}, "normalise='max'"),
        ({"measure": "cosine", "sites": "mlp.act"}, "no site 'mlp.act'"),
    ):
        with pytest.raises(TransectError, match=words):
            ts.sweep(stores=store, workers=1, **call)


def test_tables_survive_disk(store: ts.Store, tmp_path: Path) -> None:
    table = ts.sweep(["cosine", "sinkhorn"], store, n=60, workers=1)
    again = Table.load(table.save(tmp_path / "t.parquet"))
    assert again.arrow.equals(table.arrow)
    assert again.provenance["runs"][0]["fingerprint"] == store.fingerprint
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-30])
    with pytest.raises(TransectError, match="not a readable table"):
        Table.load(tmp_path / "cut.parquet")
    names, names2, matrix = table.where(measure="cosine").pivot()
    assert matrix[names.index("resid.0"), names2.index("resid.1")] == pytest.approx(
        row(table, "resid.0", "resid.1")["value"]
    )
    assert isinstance(Measure, type)


@pytest.mark.fault(
    "bad input",
    "a solver that does not end, in the value, its null or its interval",
    "status says which; no number",
)
def test_a_number_whose_null_did_not_converge_is_not_corrected(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 8)).astype(np.float32) * np.linspace(0.2, 3, 8, dtype=np.float32)
    store = planted_store(tmp_path / "s", [X, X * np.float32(1.02), X + np.float32(50)], [6] * 20)
    seen = set()
    for turns in (1, 2, 3, 4, 6, 9, 1000):
        for name in ("sinkhorn", "plan"):
            asked = {
                "n": 40,
                "groups": 4,
                "epsilon": 0.01,
                "max_iter": turns,
                "workers": 1,
                "permutations": 2,
            }
            for row in ts.sweep(name, store, **asked):
                seen.add((name, row["status"].split(":")[0]))
                numbers = [row.get(k) for k in ("value", "null", "corrected", "low", "corrected_low")]
                finite = [v is not None and np.isfinite(v) for v in numbers]
                if row["status"] == "ok":
                    assert all(finite), row
                else:
                    assert not finite[2], row
                    field = row[f"{name}_{'divergence' if name == 'sinkhorn' else 'identity'}"]
                    assert row["status"].startswith("no ") or field is None or not np.isfinite(field)
    assert ("sinkhorn", "not converged") in seen
    assert ("plan", "not converged") in seen
    assert {s for s in seen if s[1].startswith("no ")}, seen
