"""The map against the naive refit, planted manifolds found where they are, leaks and nulls; the study, its
command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import transect as ts
from planted import planted_store
from tiny import save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.inference.tests import permutation_p
from transect.numeric.shape import straight
from transect.numeric.shapes import SHAPES, find_shape
from transect.numeric.smds import SupervisedMDS
from transect.studies.manifold.map import evaluate_cell, evaluate_site, prepare
from transect.studies.manifold.plan import MapJob, Plan, group_folds
from transect.studies.manifold.positions import columns
from transect.studies.manifold.rows import friedman, interval

CIRCLE = (("circle", '{"period": 12}'),)
SETS = {
    "templates": ["{name} came in {month} to {city}. {name} left."],
    "slots": {
        "name": ["Anna", "Al"],
        "city": ["Bonn", "Rom"],
        "month": [
            {"month": m, "labels": {"month": k, "word": m}}
            for k, m in enumerate(
                ["January", "March", "May", "June", "July", "August", "October", "November", "December"], 1
            )
        ],
    },
    "landmarks": {"left": "left"},
    "repeats": True,
}


def job_of(**changes):
    base = {
        "store": "",
        "fingerprint": "",
        "tokens": (),
        "label": ("month",),
        "group": None,
        "shapes": CIRCLE,
    }
    return MapJob(**{**base, "permutations": 20, **changes})


def labels(n=90, seed=0):
    return np.random.default_rng(seed).choice(np.arange(1, 13), n, p=np.arange(1, 13) / 78)


def planted(n=90, d=14, noise=0.3, seed=0):
    """A ring of unequal axes among unequal noise, far from 0."""
    rng, y = np.random.default_rng([seed, 1]), labels(n, seed)
    X = noise * rng.standard_normal((n, d)) * np.arange(1, d + 1) / d + 20 * rng.standard_normal(d)
    ring = find_shape("circle")(y, period=12) * [2.0, 0.7]
    return X + ring @ rng.standard_normal((2, d)), y


@pytest.mark.parametrize(
    ("kind", "alpha", "d", "scale"),
    [
        ("free", 0.1, 14, "unit"),
        ("free", 0.1, 130, "standard"),
        ("free", 0.0, 14, "none"),
        ("free", 0.0, 130, "unit"),
        ("orthonormal", 0.1, 14, "standard"),
        ("orthonormal", 0.1, 130, "none"),
    ],
)
def test_the_map_equals_refitting_every_cell(kind, alpha, d, scale):
    """One factorisation and right-hand sides on label values against the estimator refitted for each fold and
    draw."""
    X, y = planted(d=d)
    many = (*CIRCLE, ("discrete_circle", '{"period": 12}'), ("line", "{}"), ("polytope", '{"dimension": 4}'))
    plan = Plan(job_of(shapes=many, alpha=alpha, scale=scale, permutations=3, repeats=2, pairs=10**6), y)
    cells = [prepare(X, plan, k) for k in range(len(plan.folds))]
    for name, given in many:
        found = evaluate_cell(cells, plan, name, kind)
        scores, nulls = [], []
        for fold in plan.folds:
            centred = X[fold.train] - X[fold.train].mean(0)
            size = {"unit": np.sqrt((centred**2).mean()), "standard": centred.std(0), "none": 1.0}[scale]
            extra = {"values": plan.values.tolist()} if name == "polytope" else {}
            made = SupervisedMDS(name, 1, 2, alpha, kind == "orthonormal", {**json.loads(given), **extra})
            if find_shape(name).parameters.get("period"):
                made.period = 12
            for b, draw in enumerate(plan.draws):
                labels_b = plan.values[draw][plan.value]
                made.fit(X[fold.train] / size, labels_b[fold.train])
                score = made.score(X[fold.test] / size, labels_b[fold.test])
                (scores if b == 0 else nulls).append(score)
        assert found["scores"] == pytest.approx(scores, abs=2e-5)
        first = np.reshape(nulls, (2, 3, 3))[0]  # of the first repeat: folds, draws
        assert found["null"] == pytest.approx(first.mean(0), abs=2e-4)
        assert found["statistic"] == pytest.approx(np.mean(scores[:3]), abs=2e-4)


def test_reuse_applies_the_map_of_the_source():
    X, y = planted(d=14)
    turned, _ = planted(d=14, seed=5)
    other = 3 * X @ np.linalg.qr(np.random.default_rng(0).standard_normal((14, 14)))[0] + turned[:, :14] * 0.1
    plan = Plan(job_of(permutations=2), y)
    source, own = ([prepare(P, plan, k) for k in range(3)] for P in (X, other))
    made = [
        type(own[0])(o.held, s.M, s.cross, (o.held @ s.M).astype(np.float32))
        for o, s in zip(own, source, strict=True)
    ]
    found = evaluate_cell(made, plan, "circle", "reuse")
    for k, fold in enumerate(plan.folds):
        A = X[fold.train] - X[fold.train].mean(0)
        B = other[fold.train] - other[fold.train].mean(0)
        fitted = SupervisedMDS(period=12).fit(A / np.sqrt((A**2).mean()), y[fold.train])
        Z = (other[fold.test] - other[fold.train].mean(0)) / np.sqrt((B**2).mean()) @ fitted.W_.T
        D = find_shape("circle").distances(y[fold.test], period=12)
        i, j = np.triu_indices(len(Z), 1)
        d = straight(Z)
        s = (D * d)[i, j].sum() / (d**2)[i, j].sum()
        assert found["scores"][k] == pytest.approx(
            1 - np.sqrt(((D - s * d)[i, j] ** 2).sum() / (D[i, j] ** 2).sum())
        )


def test_shares_of_variance():
    """Two of the axes hold 4 + 1 of the 4 + 1 + 5 parts of variance; the fit finds them, permuted labels do
    not."""
    rng, y = np.random.default_rng(0), np.tile(np.arange(1, 13), 40)
    ring = find_shape("circle")(y, period=12) * SQRT2 * [2.0, 1.0]
    rest = rng.standard_normal((480, 5))
    plan = Plan(job_of(), y)
    found = evaluate_cell(
        [prepare(np.hstack([ring, rest]) + 7, plan, k) for k in range(3)], plan, "circle", "free"
    )
    assert found["share"] == pytest.approx(0.5, abs=0.05)  # held-out values lie off the training mean
    assert 2 / 7 < found["null_share"] < found["share"], (
        "permuted labels still name the values, so they draw on the ring"
    )
    assert min(found["scores"]) > 0.97


SQRT2 = np.sqrt(2)


def test_no_label_value_is_on_both_sides_of_a_fold():
    y = labels()
    plan = Plan(job_of(folds=4, repeats=3), y)
    for fold in plan.folds:
        assert not set(y[fold.train]) & set(y[fold.test])
        assert len(fold.train) + len(fold.test) == len(y)
        assert set(plan.values[fold.present]) == set(y[fold.train])
    held = np.concatenate([f.test for f in plan.folds[:4]])
    assert np.array_equal(np.sort(held), np.arange(len(y))), "each text is held out once a repeat"
    sizes = [
        len(f)
        for f in group_folds(
            np.repeat(np.arange(9), [30, 1, 2, 9, 3, 3, 4, 20, 18]), 3, np.random.default_rng(0)
        )
    ]
    assert max(sizes) - min(sizes) <= 30


def test_points_that_only_name_the_label_do_not_pass_for_a_ring():
    """Every value has its own random direction, the same for all its texts: decodable to the last, but no
    ring. Folds that split a value would read it; folds by value, and a null that keeps the values together,
    do not."""
    y = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 9, 40))
    X = np.random.default_rng(1).standard_normal((40, 60))[y] + 0.01 * np.random.default_rng(
        2
    ).standard_normal((len(y), 60))
    shapes = (("circle", '{"period": 40}'),)
    plan = Plan(job_of(shapes=shapes, permutations=50), y)
    found = evaluate_cell([prepare(X, plan, k) for k in range(3)], plan, "circle", "free")
    level = (np.mean(found["scores"]) - np.mean(found["null"])) / (1 - np.mean(found["null"]))
    leaky = Plan(job_of(shapes=shapes), y, groups=np.arange(len(y)))
    split = evaluate_cell([prepare(X, leaky, k) for k in range(3)], leaky, "circle", "free")
    assert abs(level) < 0.15, level
    assert np.mean(split["scores"]) > 0.65
    assert np.mean(found["scores"]) < 0.45


def grouped(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(points, labels, groups): 12 people of 3 neighbouring dates, 2 texts each; points know the person."""
    rng = np.random.default_rng(seed)
    person, date = np.repeat(np.arange(12), 6), np.repeat(np.arange(36), 2)
    X = rng.standard_normal((12, 6))[person] + 0.5 * rng.standard_normal((72, 6))
    return X, date, person


@pytest.mark.fault(
    "bad input", "labels that are neighbours within a group", "labels move between whole groups in the null"
)
def test_a_null_between_groups_keeps_its_level_and_one_between_values_does_not() -> None:
    """What two dates of one person have in common is the person. Values that are permuted one by one lose it,
    and it passes for a ring; false alarms at 0.05 over 60 draws."""
    shapes, alarms = (("circle", '{"period": 36}'),), {"between groups": 0, "between values": 0}
    for seed in range(60):
        X, y, person = grouped(seed)
        job = job_of(shapes=shapes, permutations=39, seed=seed)
        plan = Plan(replace(job, group="person"), y, person)
        found = evaluate_cell([prepare(X, plan, k) for k in range(3)], plan, "circle", "free")
        alarms["between groups"] += permutation_p(found["statistic"], found["null"]) <= 0.05
        loose = Plan(job, y)
        loose.folds = plan.folds  # the same folds by person, their units the same values
        found = evaluate_cell([prepare(X, loose, k) for k in range(3)], loose, "circle", "free")
        alarms["between values"] += permutation_p(found["statistic"], found["null"]) <= 0.05
    assert alarms["between groups"] <= 8, alarms  # 3 expected; 9 or more has probability 0.003
    assert alarms["between values"] > 15, alarms


def test_groups_move_whole_and_with_one_value_each_any_way() -> None:
    from transect.studies.manifold.plan import block_permutation

    groups, generator = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), np.random.default_rng(0)
    for _ in range(20):
        order = block_permutation(groups, generator)
        assert sorted(order) == list(range(9))
        for g in range(3):
            assert len(set(groups[order[groups == g]])) == 1, "equal groups swap whole"
            assert np.all(np.diff(order[groups == g]) == 1), "in their own order"
    firsts = np.bincount([block_permutation(np.arange(4), generator)[0] for _ in range(800)], minlength=4)
    assert firsts.min() > 150


@pytest.mark.parametrize("scale", ["unit", "standard", "none"])
def test_groups_and_scale_reach_every_part(scale: str, tmp_path: Path) -> None:
    """Map, subspaces, scatter and moves hold out the same people and divide by the same numbers."""
    from transect.studies.manifold.fit import fit_at
    from transect.studies.manifold.moves import plan_move
    from transect.studies.manifold.subspaces import scatter

    X, y, person = grouped(1)
    X = X * [1, 1, 1, 1, 1, 50.0]
    points = np.repeat(X, 2, axis=0).astype(np.float32)
    store = planted_store(
        tmp_path / "s", [points], [2] * 72, labels={"date": y.tolist(), "person": person.tolist()}
    )
    job = job_of(
        store=str(store.path),
        label=("date",),
        group="person",
        scale=scale,
        shapes=(("circle", '{"period": 36}'),),
    )
    plan = Plan(job, y, person)
    held = set(plan.folds[0].test.tolist())
    assert not set(person[list(held)]) & set(person[plan.folds[0].train])
    fit = fit_at(store, job, "resid.0", "last")
    cell = prepare(store.take("resid.0", store.select("last")), plan, 0)
    np.testing.assert_allclose(fit.points[plan.folds[0].test], cell.held, rtol=1e-5, atol=1e-5)
    shown = scatter(store, job, ("resid.0", "last"))
    assert {r["sample"] for r in shown} == {store.ids[i] for i in held}
    level = evaluate_cell([prepare(store.take("resid.0", store.select("last")), plan, k) for k in range(3)],
                          plan, "circle", "free")["scores"][0]  # fmt: skip
    assert shown[0]["value"] == pytest.approx(level, abs=1e-4)
    move = plan_move(store, job, "resid.0", "last", 9.0)
    assert set(move.texts.tolist()) <= held
    assert np.array_equal(move.units, person[move.texts])


def test_added_has_a_paired_test_of_its_own() -> None:
    """Nadeau–Bengio t: its p is 0.025 where the interval's end is 0; no gap is called one in 5 %."""
    from transect.studies.manifold.rows import interval, paired_p

    gaps = np.random.default_rng(0).normal(0.1, 0.1, 9)
    low, _ = interval(gaps, 0.5)
    assert paired_p(gaps - low, 0.5) == pytest.approx(0.025)
    assert np.isnan(paired_p(np.zeros(9), 0.5))
    draws = np.random.default_rng(1)
    assert np.mean([paired_p(draws.normal(0, 1, 9), 0.0) <= 0.05 for _ in range(2000)]) == pytest.approx(
        0.05, abs=0.015
    )


def test_shapes_are_ranked_among_equal_dimensions() -> None:
    """A line that fills one dimension is not ahead of a circle that fills two, nor behind it."""
    from transect.studies.manifold.rows import ranking

    rows = [
        {"kind": "free", "site": "s", "token": "t", "status": "ok", "shape": shape, "target_rank": rank,
         "corrected": level, "replicates": [level, level + 0.01]}
        for shape, rank, level in (("line", 1, .9), ("circle", 2, .7), ("sphere", 2, .5), ("chain", 1, .2))
    ]  # fmt: skip
    told = {r["shape"]: (r["rank"], round(r["behind"], 6)) for r in ranking(rows, job_of(), ("s", "t"))}
    assert list(told) == ["circle", "sphere", "line", "chain"]
    assert told == {"circle": (1, 0), "sphere": (2, 0.2), "line": (1, 0), "chain": (2, 0.7)}


def test_permutations_move_values_not_texts():
    y = np.array([1, 1, 1, 2, 2, 3, 5, 5, 8, 9, 9, 11])
    plan = Plan(job_of(permutations=5), y)
    for draw in plan.draws[1:]:
        told = plan.values[draw][plan.unit]
        assert sorted(set(told)) == sorted(set(y))
        for value in set(y):
            assert len(set(told[y == value])) == 1, "texts that share a value still share one"
    assert np.array_equal(plan.draws[0], np.arange(len(plan.values)))


def test_noise_is_at_the_null_and_p_values_are_uniform():
    y, levels, p = np.tile(np.arange(1, 13), 5), [], []
    for seed in range(60):
        plan = Plan(job_of(permutations=19, folds=2, seed=seed), y)
        X = np.random.default_rng([9, seed]).standard_normal((60, 8))
        found = evaluate_cell([prepare(X, plan, k) for k in range(2)], plan, "circle", "free")
        s0 = np.mean(found["null"])
        levels.append((np.mean(found["scores"]) - s0) / (1 - s0))
        p.append(permutation_p(found["statistic"], found["null"]))
    assert abs(np.mean(levels)) < 0.02, np.mean(levels)
    assert 0.3 < np.mean(s0) < 0.45, "the floor that the score has on noise"
    assert 0.38 < np.mean(p) < 0.64


def test_a_chain_is_scored_on_its_defined_pairs():
    y = np.arange(1, 13).repeat(6)
    X = np.column_stack([y * 2.0, np.random.default_rng(0).standard_normal((72, 3))])
    plan = Plan(job_of(shapes=(("chain", '{"reach": 3}'),), permutations=5, pairs=10**6), y)
    found = evaluate_cell([prepare(X, plan, k) for k in range(3)], plan, "chain", "free")
    fold = plan.folds[0]
    T = (X[fold.train] - X[fold.train].mean(0)) / np.sqrt(
        ((X[fold.train] - X[fold.train].mean(0)) ** 2).mean()
    )
    assert np.isfinite(found["scores"]).all()
    assert np.mean(found["scores"]) > np.mean(found["null"])
    assert T.shape[1] == 4


def test_interval_of_overlapping_folds_is_the_textbook_one():
    from scipy.stats import t

    x = np.array([0.3, 0.5, 0.45, 0.6, 0.2, 0.55])
    low, high = interval(x, 0.5)
    half = t.ppf(0.975, 5) * np.sqrt((1 / 6 + 0.5) * x.var(ddof=1))
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half))
    assert np.isnan(interval([1.0], 0.5)).all()


def test_friedman_needs_runs_not_folds():
    from scipy.stats import friedmanchisquare

    rng = np.random.default_rng(0)
    values = rng.random((6, 4)) + np.array([0.5, 0, 0.1, 0.2])
    runs = [[{"shape": f"s{k}", "corrected": v, "status": "ok"} for k, v in enumerate(row)] for row in values]
    found = friedman(runs)
    assert found["p"] == pytest.approx(friedmanchisquare(*values.T).pvalue)
    assert found["critical"] == pytest.approx(
        2.569 * np.sqrt(4 * 5 / (6 * 6)), abs=1e-3
    )  # Demšar 2006, table 5
    assert friedman(runs[:3])["status"].startswith("not valid: 3 independent runs")


@pytest.mark.parametrize(
    ("changes", "y", "told"),
    [
        ({}, np.full(30, 4), "is constant: 4"),
        ({"folds": 5}, np.repeat([1, 2, 3], 10), "3 groups of labels for 5 folds"),
        (
            {"n_components": 4},
            np.repeat([1, 2, 3, 4, 5], 10),
            "label values in a training fold for 4 dimensions",
        ),
        ({"folds": 12}, np.arange(12), "a fold holds out 1 texts"),
    ],
)
def test_designs_that_cannot_be(changes, y, told):
    with pytest.raises(TransectError, match=told):
        Plan(job_of(**changes), y)
    with pytest.raises(TransectError, match="1 group of labels for 3 folds"):
        Plan(job_of(), labels(), groups=np.zeros(90, int))


# on a store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of sentences whose tokens differ in number, with rings planted at resid.2 of `left` and of
    nothing else."""
    home = tmp_path_factory.mktemp("manifold")
    (home / "sets.json").write_text(json.dumps(SETS))
    texts = ts.open_texts(f"template:{home / 'sets.json'}", n=90, seed=1)
    for seed, name in ((0, "trained"), (7, "random")):
        model = ts.wrap_model(tiny_model("llama", seed=seed), tiny_tokenizer(), name=name)
        store = ts.capture(model, texts, home / name, sites=["resid"])
        if name == "trained":
            plant(store)
    return home


def plant(store, site="resid.2", token="landmark:left"):
    """Replace the stored points of one cell by a ring of the month label, in the shard itself."""
    rng, chosen = np.random.default_rng(3), store.select(token)
    y = store.label("month")
    ring = find_shape("circle")(y, period=9) @ rng.standard_normal((2, store.width(site)))
    X = (ring + 0.05 * rng.standard_normal(ring.shape) + 3).astype(np.float32)
    [shard] = [store.shard(k) for k in range(len(store.plan))]
    arrays = {k: v.copy() for k, v in load_file(shard).items()}
    rows = store._row[chosen.texts] + chosen.rows - store.start[chosen.texts]
    arrays[site][rows] = X.astype(arrays[site].dtype)
    save_file(arrays, shard)


def test_columns_mean_the_same_in_every_text(folder):
    store = ts.open_store(folder / "trained")
    found, notes = columns(store)
    tokens = [c.token for c in found]
    assert len(set(store.lengths)) > 1, "the sentences differ in length"
    assert {"landmark:month", "landmark:left", "landmark:city", "landmark:name.2"} <= set(tokens)
    for column in found:
        chosen = store.select(column.token)
        assert not chosen.missing
        assert len(chosen) == len(store)
        assert (chosen.position > 0).all()
        if column.piece != "…" and column.landmark is None:
            assert {store.tokens(i)[k] for i, k in zip(chosen.texts, chosen.position, strict=True)} == {
                column.piece
            }
    order = np.array([store.select(t).position for t in tokens])
    assert (np.diff(order, axis=0) > 0).all(), "in reading order in every text"
    assert any("masked" in note and "of 90 texts" in note for note in notes)
    asked, _ = columns(store, ["landmark:month", "landmark:left+40", "0"])
    assert [c.status == "ok" for c in asked] == [True, False, False]
    assert "90 of 90 texts have no such token" in asked[1].status
    with pytest.raises(TransectError, match="not one token a text"):
        columns(store, ["all"])


def test_the_planted_ring_is_found_where_it_is(folder, tmp_path):
    store, random = ts.open_store(folder / "trained"), ts.open_store(folder / "random")
    study = ts.studies.manifold(
        store,
        label="month",
        period=9,
        controls=[random],
        repeats=2,
        permutations=39,
        discover=True,
        components=2,
        out=tmp_path,
        workers=1,
        source="month",
        tokens=["landmark:name.2", "landmark:month", "landmark:left", "landmark:left+90"],
    )
    table = study.tables["map"]
    free = {(r["site"], r["token"]): r for r in table.where(kind="free", shape="circle")}
    hit = free["resid.2", "landmark:left"]
    assert hit["value"] > 0.9
    assert hit["p_max"] == pytest.approx(1 / 40)
    assert hit["added"] > 0.5
    assert hit["corrected_low"] > 0.8
    assert hit["share"] > 0.8
    assert hit["corrected"] == pytest.approx((hit["value"] - hit["null"]) / (1 - hit["null"]))
    assert free["resid.0", "landmark:left"]["status"] == "the points are the same in all texts"
    assert free["resid.0", "landmark:left"]["value"] is None, "never 0"
    assert "texts have no such token" in free["resid.1", "landmark:left+90"]["status"]
    reused = {(r["site"], r["token"]): r for r in table.where(kind="reuse")}
    assert reused["resid.2", "landmark:left"]["value"] < 0.8, (
        "the source does not know the ring planted elsewhere"
    )
    assert {r["kind"] for r in table} == {"free", "orthonormal", "reuse"}
    ranked = study.tables["discovery"].where(status="ok")
    assert ranked.column("site")[0] == "resid.2"
    assert ranked.column("shape")[:3].tolist().count("circle") == 1
    assert all(np.isfinite(ranked.column(c)).all() for c in ("corrected_low", "behind", "null"))
    assert "not valid" in next(iter(study.tables["friedman"]))["status"]
    assert "resid.2, left" in study.findings[0]
    again = ts.studies.manifold(
        store, label="month", period=9, controls=[random], repeats=2, permutations=39, discover=True,
        out=tmp_path, source="month",
        tokens=["landmark:name.2", "landmark:month", "landmark:left", "landmark:left+90"],
        workers=1,
    )  # fmt: skip
    assert again.tables["map"].arrow.equals(table.arrow), "read back from the kept cells"


def test_similarity_of_a_token_with_itself_and_its_copy(folder):
    from transect.studies.manifold.positions import Column
    from transect.studies.manifold.subspaces import similarity

    store = ts.open_store(folder / "trained")
    found = [Column("landmark:left", "left"), Column("landmark:left", "left"), Column("landmark:month", "m")]
    rows = similarity(store, job_of(shapes=(("circle", '{"period": 9}'),)), found, ["resid.2"])
    same, other = rows[1], rows[2]
    assert same["value"] == pytest.approx(1)
    assert same["overlap"] == pytest.approx(1)
    assert same["angle_last"] == pytest.approx(0, abs=1e-3)
    assert same["null"] < 0.95
    assert 0 <= other["value"] < 0.9
    assert other["status"] == "ok"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "no label named"),
        ({"label": "moth"}, "no label 'moth'"),
        ({"label": "word"}, "needs numbers as labels"),
        ({"label": "month", "period": 1}, "whole periods apart"),
        ({"label": "month", "shape": "sphere"}, "needs labels with 2 columns"),
        ({"label": "month", "shape": "rnig"}, "no shape 'rnig'"),
        ({"label": "month", "shape": "semicircle", "period": 3}, "off its domain"),
        ({"label": "month", "folds": 30}, "9 groups of labels for 30 folds"),
        ({"label": "month", "source": "moon"}, "source 'moon' is no column"),
        ({"label": "month", "group": "city"}, "no label 'city'"),
        ({"label": "month", "parameters": {"circle": {"perio": 3}}}, "no parameter perio"),
    ],
)
def test_bad_input(folder, given, told):
    with pytest.raises(TransectError, match=told):
        ts.studies.manifold(ts.open_store(folder / "trained"), **given, permutations=3, workers=1)


def test_a_control_of_other_texts_is_refused(folder, tmp_path):
    texts = ts.open_texts("weekdays:8")
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), name="other")
    other = ts.capture(model, texts, tmp_path / "o", sites=["resid"])
    with pytest.raises(TransectError, match="other texts than"):
        ts.studies.manifold(ts.open_store(folder / "trained"), label="month", controls=[other])
    bare = ts.capture(model, ts.open_texts(str(_jsonl(tmp_path))), tmp_path / "b", sites=["resid.1"])
    with pytest.raises(TransectError, match="no landmark that all texts have"):
        ts.studies.manifold(bare, label="k", shape="line", permutations=3)


def _jsonl(folder):
    path = folder / "bare.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"some words number {k}", "k": k}) for k in range(12)))
    return path


def test_shapes_of_one_label_all_have_a_row(folder):
    """Discovery tries every shape of one label; one that these labels do not suit is a row that says why."""
    store = ts.open_store(folder / "trained")
    shapes = tuple((k, "{}") for k, kind in SHAPES.items() if kind.columns in (0, 1))
    job = MapJob(
        str(store.path), store.fingerprint, ("landmark:left",), ("month",), None, shapes, permutations=3
    )
    answer = evaluate_site((job, "resid.2"))["landmark:left"]
    assert set(answer) == {f"free {name}" for name, _ in shapes}
    assert "whole periods apart" in answer["free circle"]["status"]
    assert answer["free line"]["status"] == answer["free clusters"]["status"] == "ok"


def test_command_and_intervention(tmp_path):
    """The command, its default folder, figures, and a move inside a model whose readout is known."""
    home = save_tiny(tmp_path / "model", "llama")
    sets = json.loads(json.dumps(SETS))
    for month in sets["slots"]["month"]:
        month["labels"]["third"] = f"third {month['labels']['month'] % 3}"
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    store = ts.capture(
        ts.open_model(home),
        ts.open_texts(f"template:{tmp_path / 'sets.json'}", n=60),
        tmp_path / "s",
        sites=["resid"],
    )
    asked = [
        *(
            "manifold",
            str(store.path),
            "--label",
            "month",
            "--period",
            "9",
            "--permutations",
            "9",
            "--repeats",
            "1",
        ),
        *("--intervene", "--workers", "1", "--token", "landmark:month", "--token", "landmark:left"),
        *("--formats", "png"),
    ]
    from transect.cli.main import cli

    result = CliRunner().invoke(cli, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    out = tmp_path / "s-manifold"
    drawn = {p.stem for p in (out / "figures").glob("*.png")}
    assert {"map", "lines", "reuse", "orthonormal", "similarity", "scatter", "intervention"} <= drawn
    assert "does not mean" in result.stderr
    moved = ts.Table.load(out / "intervention.parquet").where(measure="kl", status="ok")
    assert len(moved)
    assert (moved.column("value") > 0).any()
    assert (moved.column("null") > 0).any()
    assert moved.column("value")[-1] == pytest.approx(0, abs=1e-9), (
        "nothing reads an earlier token after the last block"
    )
    given = {"label": "month", "period": 9, "permutations": 9, "repeats": 1, "workers": 1}
    alone = ts.studies.manifold(store, tokens=["landmark:month"], group="third", intervene=True, **given)
    assert "of one group, so that it has no interval" in " ".join(alone.warnings)


def test_a_move_is_added_at_its_place_only():
    import torch

    from transect.studies.manifold.moves import next_token

    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), name="tiny")
    ids = [[5, 9, 30, 41, 7], [6, 10, 31]]
    before = next_token(model, ids)
    assert np.allclose(before[1], next_token(model, ids[1:])[0], atol=1e-5), "read before the padding"
    rng = np.random.default_rng(0)
    delta = rng.standard_normal((2, 32)).astype(np.float32)
    for site in ("resid.0", "resid.1", "resid.3"):
        assert np.allclose(next_token(model, ids, (site, [1, 2], 0 * delta)), before, atol=1e-6)
    last = next_token(model, ids, ("resid.3", [4, 2], delta))
    hidden = model.base(torch.tensor([ids[0]]), output_hidden_states=True)
    norm, head = model.model.model.norm, model.model.lm_head
    seen = {}
    handle = model.model.model.layers[-1].register_forward_hook(
        lambda _m, _a, out: seen.update(x=out[0] if isinstance(out, tuple) else out)
    )
    model.base(torch.tensor([ids[0]]))
    handle.remove()
    truth = head(norm(seen["x"][0, -1] + torch.from_numpy(delta[0]))).log_softmax(-1).detach().numpy()
    assert last[0] == pytest.approx(truth, abs=1e-5)
    assert np.allclose(next_token(model, ids, ("resid.3", [1, 0], delta)), before, atol=1e-6), (
        "other places, no change"
    )
    assert not np.allclose(next_token(model, ids, ("resid.1", [1, 0], delta)), before, atol=1e-4)
    assert hidden is not None
    alone = next_token(model, ids[:1], ("resid.1", [1], delta[:1]))
    assert np.allclose(next_token(model, ids, ("resid.1", [1, 0], delta))[0], alone[0], atol=1e-5), (
        "each text its own"
    )


def test_months_of_dates():
    from transect.studies.manifold.question import WORDS
    from transect.texts.sets import birthdays

    for choice in birthdays()["slots"]["date"]:
        told = choice["labels"]
        assert WORDS["date"][1](told["date"]) == told["month"] - 1
        assert WORDS["month"][1](told["month"]) == told["month"] - 1
