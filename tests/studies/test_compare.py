"""The comparison on planted runs: what moved is found where it was planted, controls count, unfit runs are
refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import transect as ts
from planted import planted_store, tuples_cka
from transect.cli.main import cli
from transect.errors import TransectError
from transect.files import write_json
from transect.results.table import Table
from transect.studies.compare.arms import Arm, matches, siblings
from transect.studies.compare.contrasts import contrast, methods
from transect.studies.compare.tables import relation

LAYERS, WIDTH = 5, 8
LENGTHS = [7, 12, 9, 5, 14, 8, 11, 6, 10, 13, 9, 12, 7, 8, 15, 6]
MOVED = (0.0, 0.02, 0.05, 0.6, 0.2)  # share of new variance that "full" puts into each layer; layer 3 most


def layers(shares, seed, base_seed=0):
    """The base's points, each layer with its share of new variance and an offset that no centred measure may
    see."""
    rng, fresh = np.random.default_rng(base_seed), np.random.default_rng(seed)
    n = sum(LENGTHS)
    out = []
    for share in shares:
        X = rng.standard_normal((n, WIDTH)) * np.geomspace(4, 0.5, WIDTH) + 1
        new = fresh.standard_normal((n, WIDTH)) * X.std(axis=0)
        out.append(X + np.sqrt(share) * new + (3 if share > 0.01 else 0))
    return out


def run_folder(folder, method, seed, loss, score, learned=True, task="reviews"):
    folder.mkdir(parents=True)
    write_json(folder / "recipe.json", {"model": "base", "task": task, "method": method, "seed": seed})
    write_json(folder / "scores.json", {"step": 60, "loss": loss, "accuracy": score})
    told = {"headline": "accuracy", "baseline": 0.52, "learned": learned, "n": 100}
    told |= {"judged_by": "accuracy", "judged": score}
    told |= {"over_baseline": score - 0.52, "over_baseline_error": 0.04}
    write_json(folder / "result.json", told)
    return folder


def store(path, shares, seed, name, spec=None, **kwargs):
    made = planted_store(path, layers(shares, seed, **kwargs), LENGTHS, name=name)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["model"]["spec"] = str(spec or name)
    write_json(path / "manifest.json", manifest)
    return ts.open_store(made.path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    at = tmp_path_factory.mktemp("compare")
    small = tuple(s / 6 for s in MOVED)
    return {
        "base": store(at / "base", (0,) * LAYERS, 1, "base"),
        "full": store(at / "full", MOVED, 2, "full-0", run_folder(at / "r/full-0", "full", 0, 0.33, 0.85)),
        "lora": store(
            at / "lora", small, 3, "lora-0", f"base+{run_folder(at / 'r/lora-0', 'lora', 0, 0.31, 0.83)}"
        ),
        "lora1": store(
            at / "lora1", small, 4, "lora-1", f"base+{run_folder(at / 'r/lora-1', 'lora', 1, 0.32, 0.84)}"
        ),
        "noise": store(at / "noise", (0, 1e-8, 1e-8, 1e-8, 1e-8), 5, "noise"),
        "random": store(at / "random", (0,) * LAYERS, 6, "random", base_seed=99),
    }


@pytest.fixture(scope="module")
def study(runs, tmp_path_factory):
    made = ts.studies.compare(
        [runs["base"], runs["full"], runs["lora"]],
        noise=runs["noise"],
        seed_controls=[runs["lora1"]],
        random=runs["random"],
        n=56,
        groups=4,
        workers=1,
    )
    made.save(tmp_path_factory.mktemp("study"))
    return made


def drift(study, run, measure="cka", table="layers"):
    part = study.tables[table].where(run2=run, measure=measure, normalise="raw")
    return dict(zip(part.column("site"), part.column("drift"), strict=True))


def test_drift_is_what_was_planted(study):
    found = drift(study, "full-0")
    assert max(found, key=lambda s: found[s]) == "resid.3"
    assert found["resid.0"] == pytest.approx(0, abs=1e-9)
    assert drift(study, "lora-0")["resid.3"] < found["resid.3"] / 2
    assert max(drift(study, "noise").values()) < 1e-6
    assert min(drift(study, "random").values()) > 0.9
    assert drift(study, "full-0", "euclidean")["resid.3"] > 5, "distances are in the activations' own units"


def test_drift_equals_the_measure_on_the_same_rows(study, runs):
    """The table's CKA is that of the drawn tokens; euclidean too."""
    from transect.inference.draws import draw

    row = next(
        iter(study.tables["layers"].where(run2="full-0", measure="cka", site="resid.2", normalise="raw"))
    )
    chosen = runs["base"].select("all", False)
    rows = draw(chosen, n=56, groups=4, seed=0).rows.ravel()
    X, Y = (runs[k].take("resid.2", chosen.subset(rows)) for k in ("base", "full"))
    truth = tuples_cka(X.astype(float), Y.astype(float), row["tokens_a_text"])
    assert row["value"] == pytest.approx(truth, abs=1e-6)
    assert row["drift"] == pytest.approx(1 - row["value"], abs=1e-12)
    assert row["drift_low"] < row["drift"] < row["drift_high"]
    assert row["n"] == len(rows)


def test_ranking_puts_the_planted_layer_first(study):
    part = list(study.tables["ranking"].where(run="full-0", measure="cka", normalise="raw"))
    assert [r["rank"] for r in part] == [1, 2, 3, 4, 5]
    assert part[0]["site"] == "resid.3"
    assert part[0]["top3"] == 1.0
    assert part[0]["low"] < part[0]["value"] < part[0]["high"]


def test_contrasts_show_noise_and_another_seed_and_test_nothing(study):
    table = study.tables["contrasts"]
    noise = table.where(contrast="beyond noise", run="full-0", measure="cka")
    at = {r["site"]: r for r in noise}
    assert at["resid.0"]["value"] == pytest.approx(0, abs=1e-9), "identical points are no finding"
    assert at["resid.3"]["low"] > 0
    seeds = table.where(contrast="beyond second seed", run="lora-0")
    assert len(seeds) == 40
    assert "p" not in table.columns or all(r["p"] is None for r in table), "one seed an arm tests nothing"
    assert drift(study, "lora-1", table="between")["resid.3"] > drift(study, "lora-0")["resid.3"]
    assert any("needs 3 training seeds" in f for f in study.findings)


def test_full_against_lora_where_losses_match(study):
    (pair,) = study.tables["matched"]
    assert (pair["run"], pair["run2"], pair["matched"]) == ("lora-0", "full-0", True)
    both = study.tables["contrasts"].where(
        contrast="full − LoRA, matched on loss", measure="cka", site="resid.3"
    )
    row = next(iter(both))
    assert row["value"] == pytest.approx(row["left"] - row["right"])
    assert row["value"] > 0
    assert row["low"] < row["value"] < row["high"]


def test_matrices_and_their_difference(study):
    table = study.tables["matrices"]
    cross = {(r["site"], r["site2"]): r["value"] for r in table.where(panel="full-0 × base")}
    own = {(r["site"], r["site2"]): r["value"] for r in table.where(panel="base × itself")}
    delta = {(r["site"], r["site2"]): r for r in table.where(panel="full-0 × base − base")}
    assert len(cross) == 25
    assert len(delta) == 25
    assert delta["resid.1", "resid.4"]["value"] == pytest.approx(
        cross["resid.1", "resid.4"] - own["resid.1", "resid.4"]
    )
    assert delta["resid.4", "resid.1"]["value"] == pytest.approx(
        cross["resid.4", "resid.1"] - own["resid.1", "resid.4"]
    )
    assert delta["resid.3", "resid.3"]["value"] == pytest.approx(cross["resid.3", "resid.3"] - 1)
    assert delta["resid.3", "resid.3"]["high"] < 0


def test_words_and_figures(study, tmp_path):
    from transect.results.drawing import save_all

    told = " ".join(study.findings)
    assert "resid.3" in told
    assert "accuracy 0.85" in told
    assert "0.85 against 0.52 for the best constant answer, a difference of 0.33 [0.251, 0.409]" in told
    assert any("Holm" in m for m in study.methods)
    assert not any("no control" in w.lower() for w in study.warnings)
    files = save_all(study, tmp_path, ("png",))
    assert {f.stem for f in files} >= {"drift", "heatmap", "matrices", "score"}
    page = ts.report(study, tmp_path / "r.html").read_text()
    assert "Drift from the base" in page


def test_missing_controls_and_arms_that_did_not_learn_are_said(runs, tmp_path):
    lazy = store(
        tmp_path / "s", MOVED, 8, "lazy", run_folder(tmp_path / "lazy", "full", 0, 0.9, 0.53, learned=False)
    )
    study = ts.studies.compare(
        [runs["base"], lazy, runs["lora"]], n=32, groups=4, workers=1, matrices=False, measures="cka"
    )
    told = " ".join(study.warnings)
    assert (
        "lazy is not shown to have learned: accuracy 0.53 against 0.52 for the best constant answer" in told
    )
    assert "a difference of 0.01 [-0.0694, 0.0894] on 100 examples" in told
    assert "not matched on loss" in told
    assert "--noise" in told
    assert "--random" in told
    assert "One training seed" in told
    assert "beyond noise" not in set(study.tables["contrasts"].column("contrast"))


def test_token_classes_side_by_side(runs):
    given = {"tokens": "all,mean", "measures": "cosine,cka", "groups": 4, "workers": 1, "matrices": False}
    study = ts.studies.compare([runs["base"], runs["full"]], n=32, **given)
    assert study.tables["layers"].values("token") == ["all", "mean"]


def test_unfit_runs_are_refused(runs, tmp_path):
    def refused(match, *stores, **given):
        with pytest.raises(TransectError, match=match):
            ts.studies.compare(list(stores), workers=1, **given)

    base = runs["base"]
    refused("at least one other", base)
    refused("share a name", base, base)
    other = planted_store(tmp_path / "o", layers(MOVED, 1), LENGTHS, name="other", token=6)
    refused("their tokenizers differ", base, other)
    manifest = json.loads((tmp_path / "o/manifest.json").read_text())
    manifest["texts"]["fingerprint"] = "1"
    write_json(tmp_path / "o/manifest.json", manifest)
    refused("different texts", base, ts.open_store(tmp_path / "o"))
    refused("different texts", base, runs["full"], noise=ts.open_store(tmp_path / "o"))


def test_one_layer_that_fails_is_a_row_with_its_reason(runs, tmp_path):
    points = layers(MOVED, 9)
    points[2][:] = 0
    broken = planted_store(tmp_path / "b", points, LENGTHS, name="broken")
    study = ts.studies.compare(
        [runs["base"], broken], n=32, groups=4, workers=1, matrices=False, measures="cka,cosine"
    )
    bad = study.tables["layers"].where(site="resid.2", run2="broken", normalise="raw")
    assert {r["measure"]: r["status"] for r in bad}["cosine"].startswith("cosine:")
    assert "NaN" in {r["measure"]: r["status"] for r in bad}["cka"]
    assert any("flagged" in w for w in study.warnings)


def test_contrast_is_the_paired_jackknife():
    base = {"site": "resid.1", "token": "all", "normalise": "raw", "design": "paired", "measure": "cka"}
    base |= {"n": 9, "n_texts": 3, "status": "ok"}
    left = [base | {"drift": 0.5, "again": [0.4, 0.5, 0.6, 0.5]}]
    right = [base | {"drift": 0.2, "again": [0.1, 0.2, 0.3, 0.2]}]
    (row,) = contrast("x", "a", "b", left, right)
    assert row["value"] == pytest.approx(0.3)
    assert row["high"] - row["low"] < 1e-9, "what both share cancels"
    (row,) = contrast("x", "a", "b", left, [base | {"drift": 0.2, "again": [0.2, 0.2, 0.2, 0.2]}])
    from scipy.stats import t

    assert row["high"] - row["value"] == pytest.approx(t.ppf(0.975, 3) * np.sqrt(3 / 4 * 0.02))


def test_methods_are_compared_over_seeds_and_only_with_three():
    """Full lies 0.3 beyond LoRA with seeds 0.01 apart: found at once; without a difference few cells are
    called one."""

    def arm(name, method, seed):
        return Arm(name, "run", method, "t", seed, 60, 0.3, "accuracy", 0.8, 0.5, True, 10)

    rng = np.random.default_rng(0)

    def rows(arms, gap):
        base = {
            "token": "all",
            "normalise": "raw",
            "design": "paired",
            "measure": "cka",
            "n": 9,
            "n_texts": 3,
        }
        return [
            base
            | {
                "site": f"resid.{k}",
                "run2": a.name,
                "drift": 0.4 + gap * (a.method == "full") + 0.01 * rng.normal(),
            }
            for a in arms
            for k in range(6)
        ]

    arms = [arm(f"{m}{s}", m, s) for m in ("full", "lora") for s in range(3)]
    found = methods(arms, rows(arms, 0.3))
    assert len(found) == 6
    assert all(r["p_holm"] < 0.05 and r["low"] > 0 and r["seeds"] == 3 for r in found)
    assert methods(arms[:5], rows(arms[:5], 0.3)) == [], "two seeds in one arm are not enough"
    alarms = [any(r["p_holm"] < 0.05 for r in methods(arms, rows(arms, 0.0))) for _ in range(60)]
    assert np.mean(alarms) <= 0.15


def test_arms_match_by_task_and_seed():
    def arm(name, method, loss, task="a", seed=0, step=60, final=True):
        return Arm(name, "run", method, task, seed, step, loss, "accuracy", 0.8, 0.5, True, 10, final)

    arms = [arm("l", "lora", 0.30), arm("f40", "full", 0.31, step=40, final=False), arm("f60", "full", 0.20)]
    (pair,) = matches([*arms, arm("other", "full", 0.30, task="b")])
    assert pair["run2"] == "f40", "the checkpoint with the nearest loss"
    assert siblings([*arms, arm("l1", "lora", 0.3, seed=1)])["l"] == "l1"
    assert "f40" not in siblings(arms)
    (pair,) = matches([arms[0], arm("far", "full", 0.60)])
    assert not pair["matched"]


def test_the_size_of_the_weight_change_beside_the_step_of_drift():
    """ΔW that grows as the steps of one run do, and falls as those of another: ranks 1 and −1, each by its
    own folder."""
    weights = Table(
        {"run": run, "layer": k, "measure": "relative_norm_of_layer", "value": v, "status": "ok"}
        for run, sizes in (("a", [1, 2, 4, 9, 11]), ("b", [7, 5, 3, 2, 1]))
        for k, v in enumerate(sizes)
    )
    drifts = np.cumsum([0, 0.1, 0.2, 0.4, 0.7, 0.9])
    rows = [
        {"run2": run, "measure": "cka", "normalise": "raw", "site": f"resid.{k}", "drift": d}
        for run in ("x", "y")
        for k, d in enumerate(drifts)
    ]
    arms = {"x": Arm("x", "run", "lora", folder="a"), "y": Arm("y", "run", "full", folder="b")}
    found = {r["run"]: r["value"] for r in relation(weights, rows, arms)}
    assert found == {"x": pytest.approx(1), "y": pytest.approx(-1)}


def test_the_command(runs, tmp_path):
    paths = [str(runs[k].path) for k in ("base", "full", "lora")]
    args = [
        "compare",
        *paths,
        "--out",
        str(tmp_path / "out"),
        "--formats",
        "svg",
        "--n",
        "32",
        "--groups",
        "4",
        "--workers",
        "1",
        "--no-matrices",
    ]
    done = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    assert "1 − unbiased CKA" in done.output
    assert (tmp_path / "out/report.html").exists()
    assert (tmp_path / "out/figures/drift.svg").exists()
    assert len(ts.Study.load(tmp_path / "out").tables["layers"])


def test_change_is_ranked_where_it_enters(runs, tmp_path):
    """Blocks 0 → 1 and 2 → 3 are planted; what they changed is still there above, and ranks last."""
    from transect.studies.compare.tables import entering, ranking

    drift = {"resid.0": 0.0, "resid.1": 0.4, "resid.2": 0.41, "resid.3": 0.8, "resid.4": 0.82}
    rng = np.random.default_rng(0)
    rows = [
        {"run2": "x", "measure": "cka", "site": site, "token": "all", "normalise": "raw", "drift": level,
         "again": (level + 0.01 * rng.normal(size=5)).tolist(), "drift_low": 0, "drift_high": 1,
         "design": "paired", "n": 10, "n_texts": 5, "series": "x", "status": "ok"}
        for site, level in drift.items()
    ]  # fmt: skip
    found = ranking(entering(rows))
    assert [(r["site"], r["site2"]) for r in found[:2]] == [("resid.0", "resid.1"), ("resid.2", "resid.3")]
    assert found[0]["value"] == pytest.approx(0.4)
    assert found[0]["low"] > 0 > found[-1]["low"]
    assert [r["site"] for r in ranking(rows)[:3]] == ["resid.4", "resid.3", "resid.2"]


def test_the_interval_of_a_drift_stays_above_zero():
    from transect.studies.compare.tables import with_drift

    arm = Arm("x", "run", "lora", "t")
    row = {"measure": "cka", "value": 0.999, "low": 0.99, "high": 1.0, "run2": "x"}
    row["replicates"] = [0.9995, 0.998, 0.9992, 0.9985, 0.9991]
    (told,) = with_drift([row], {"x": arm})
    assert 0 < told["drift_low"] < 0.001 < told["drift_high"]


def test_a_run_with_the_points_of_the_base_has_no_largest_drift(runs, tmp_path):
    same = store(tmp_path / "same", (0,) * LAYERS, 7, "same")
    asked = {"measures": "cka", "matrices": False, "n": 60, "groups": 4, "workers": 1}
    found = ts.studies.compare([runs["base"], same], **asked).findings
    assert any("same: at every layer the points of the base" in f for f in found)
    assert not any("largest accumulated drift" in f for f in found)


def test_a_token_that_is_massive_in_one_run_is_dropped_in_all(tmp_path):
    """Else the base with itself, and with another run, are of other tokens than the run that has it."""
    stores = []
    for k, name in enumerate(("base", "one", "two", "control")):
        points = layers((0.0,) * 2 if not k else (0.0, 0.1), k)
        if name == "two":
            points[1][30] *= 100
        stores.append(planted_store(tmp_path / name, points, LENGTHS, name=name))
    small = {"n": 32, "groups": 3, "workers": 1}
    study = ts.studies.compare(stores[:3], random=stores[3], measures="cka", **small)
    for table in ("layers", "matrices"):
        rows = study.tables[table].where(measure="cka", design="paired", status="ok")
        assert set(rows.values("massive_dropped")) <= {1, None}, table
        assert 1 in rows.values("massive_dropped")
    found = ts.studies.drift([stores[0], stores[2]], controls=[stores[3]], **small)
    for name in ("adjacent", "layers"):
        assert set(found.tables[name].values("massive_dropped")) == {1}, name
