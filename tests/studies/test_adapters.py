"""ΔW of adapters and fine-tunes: planted factors with known norm, spectrum and direction; bad folders are
refused."""

import json
import shutil
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from planted_adapter import ALPHA, DOWN1, Q0, R, plant
from tiny import save_tiny
from transect.cli.main import cli
from transect.errors import TransectError
from transect.results.drawing import save_all
from transect.studies.adapters.changes import Change, base_weights, product_svd
from transect.studies.adapters.study import adapters, energy


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("base") / "llama", "llama"))


def value(study, site, measure, run=None):
    rows = study.tables["modules"].where(site=site, measure=measure)
    return next(iter(rows if run is None else rows.where(run=run)))


def test_a_rank_one_change_along_the_second_direction(base, tmp_path):
    """B A = 5 u v₂ᵀ with v₂ the second right singular vector of W: norm 5 · alpha/r = 20, stable rank 1, all
    in the top 2, none in the top 1."""
    W = base_weights(base)[Q0].astype(float)
    v = np.linalg.svd(W)[2][1]
    u = np.zeros(32)
    u[4] = 1
    B, A = np.zeros((32, R)), np.zeros((R, 32))
    B[:, 0], A[0] = 5 * u, v
    rng = np.random.default_rng(0)
    other = rng.standard_normal((32, R)), rng.standard_normal((R, 48)) * 0.1
    folder = plant(tmp_path / "a", base, {Q0: (B, A), DOWN1: other})
    two, one = (adapters(folder, base, top=k) for k in (2, 1))
    assert value(two, Q0, "relative_norm")["norm"] == pytest.approx(20, rel=1e-5)
    assert value(two, Q0, "relative_norm")["value"] == pytest.approx(20 / np.linalg.norm(W), rel=1e-5)
    assert value(two, Q0, "stable_rank")["value"] == pytest.approx(1, rel=1e-5)
    assert value(two, Q0, "energy_in_top")["value"] == pytest.approx(1, rel=1e-5)
    assert value(one, Q0, "energy_in_top")["value"] == pytest.approx(0, abs=1e-6)
    row = value(two, Q0, "energy_in_top")
    assert row["null"] == pytest.approx(2 / 32, abs=0.03), "random directions hold k / n"
    assert row["p"] == pytest.approx(1 / 21)


def test_a_random_change_is_what_the_product_says(base, tmp_path):
    rng = np.random.default_rng(1)
    B, A = rng.standard_normal((32, R)) * [3, 1, 0.2], rng.standard_normal((R, 48))
    study = adapters(plant(tmp_path / "a", base, {DOWN1: (B, A)}), base)
    delta = ALPHA / R * B @ A
    s = np.linalg.svd(delta, compute_uv=False)
    row = value(study, DOWN1, "stable_rank")
    assert row["norm"] == pytest.approx(np.linalg.norm(delta), rel=1e-5)
    assert row["value"] == pytest.approx((s**2).sum() / s[0] ** 2, rel=1e-4)
    assert 1 < row["value"] <= R
    spectrum = study.tables["spectra"].where(site=DOWN1).column("value")
    assert spectrum == pytest.approx(s[:R] / s[0], rel=1e-4)
    assert row["layer"] == 1
    assert row["module"] == "down_proj"


def test_layers_sum_their_modules_as_one_vector(base, tmp_path):
    rng = np.random.default_rng(2)
    K0 = "model.layers.0.self_attn.k_proj"
    factors = {Q0: (rng.standard_normal((32, R)), rng.standard_normal((R, 32)))}
    factors[K0] = rng.standard_normal((16, R)) * 2, rng.standard_normal((R, 32))
    study, W = adapters(plant(tmp_path / "a", base, factors), base), base_weights(base)
    deltas = [ALPHA / R * B @ A for B, A in factors.values()]
    truth = np.sqrt(sum((d**2).sum() for d in deltas) / sum((W[m] ** 2).sum() for m in factors))
    (row,) = study.tables["layers"]
    assert row["value"] == pytest.approx(truth, rel=1e-5)


def test_scaling_follows_the_configuration(base, tmp_path):
    rng = np.random.default_rng(3)
    factors = {Q0: (rng.standard_normal((32, R)), rng.standard_normal((R, 32)))}
    size = np.linalg.norm(factors[Q0][0] @ factors[Q0][1])
    for name, config, scale in (
        ("plain", {}, ALPHA / R),
        ("rs", {"use_rslora": True}, ALPHA / np.sqrt(R)),
        ("pattern", {"alpha_pattern": {"q_proj": 30}}, 30 / R),
    ):
        study = adapters(plant(tmp_path / name, base, factors, **config), base)
        assert value(study, Q0, "stable_rank")["norm"] == pytest.approx(scale * size, rel=1e-5)


def test_a_full_fine_tune_stands_beside_it(base, tmp_path):
    """W + 0.01 · rank 2 in one module: its ΔW has stable rank at most 2 and the planted norm."""
    rng = np.random.default_rng(4)
    tuned = shutil.copytree(base, tmp_path / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    delta = rng.standard_normal((32, 2)) @ rng.standard_normal((2, 32)) * 0.01
    tensors[f"{Q0}.weight"] = tensors[f"{Q0}.weight"] + delta.astype(np.float32)
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    folder = plant(tmp_path / "a", base, {Q0: (rng.standard_normal((32, R)), rng.standard_normal((R, 32)))})
    study = adapters(folder, base, full=str(tuned))
    row = value(study, Q0, "stable_rank", run="tuned")
    assert row["norm"] == pytest.approx(np.linalg.norm(delta), rel=1e-3)
    assert row["value"] <= 2.001
    assert study.tables["layers"].values("run") == ["a", "tuned"]
    same = shutil.copytree(tuned, tmp_path / "full" / "a")
    beside = adapters(folder, base, full=str(same)).tables["modules"]
    assert beside.values("run") == ["a", "full/a"], "two folders of one name are two runs"


def test_product_svd_and_energy_are_those_of_the_product():
    rng = np.random.default_rng(5)
    B, A = rng.standard_normal((9, 3)), rng.standard_normal((3, 14))
    U, s, V = product_svd(B, A)
    assert U * s @ V == pytest.approx(B @ A)
    axes = np.linalg.qr(rng.standard_normal((14, 4)))[0].T
    change = Change("x", U, s, V, np.zeros((9, 14)), 3)
    assert energy(change, axes) == pytest.approx(((B @ A @ axes.T) ** 2).sum() / ((B @ A) ** 2).sum())


def test_an_adapter_that_did_not_move_is_said(base, tmp_path):
    folder = plant(tmp_path / "a", base, {Q0: (np.zeros((32, R)), np.ones((R, 32)))})
    study = adapters(folder, base)
    assert value(study, Q0, "relative_norm")["value"] == 0
    assert value(study, Q0, "stable_rank")["status"] == "undefined: ΔW is zero"


def test_unfit_folders_are_refused(base, tmp_path):
    ok = {Q0: (np.ones((32, R)), np.ones((R, 32)))}
    cases = [
        ("lost", {"model.layers.9.self_attn.q_proj": ok[Q0]}, {}, "no weight in the base"),
        ("shape", {Q0: (np.ones((31, R)), np.ones((R, 32)))}, {}, "31 × 32"),
        ("kind", ok, {"peft_type": "IA3"}, "IA3"),
    ]
    for name, factors, config, match in cases:
        with pytest.raises(TransectError, match=match):
            adapters(plant(tmp_path / name, base, factors, **config), base)
    folder = plant(tmp_path / "cut", base, ok)
    data = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(TransectError, match="cut short"):
        adapters(folder, base)
    with pytest.raises(TransectError, match="no such adapter"):
        adapters(tmp_path / "nothing", base)


def test_the_command(base, tmp_path):
    rng = np.random.default_rng(6)
    factors = {Q0: (rng.standard_normal((32, R)), rng.standard_normal((R, 32)))}
    factors[DOWN1] = rng.standard_normal((32, R)), rng.standard_normal((R, 48))
    folder = plant(tmp_path / "a", base, factors)
    args = ["adapters", str(folder), "--base", base, "--out", str(tmp_path / "out"), "--formats", "svg"]
    done = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    assert "stable rank" in done.output
    for name in ("layers", "spectra", "energy"):
        assert (tmp_path / f"out/figures/{name}.svg").exists()


INITS = [True, "gaussian", "pissa", "olora", "eva", "orthogonal", "mica"]
KINDS = [{"init_lora_weights": init} for init in INITS] + [
    {"use_rslora": True, "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"down_proj": 5}},
    {"use_dora": True},
    {"bias": "all"},
    {"modules_to_save": ["lm_head", "norm"]},
    {"target_modules": ["q_proj", "embed_tokens"]},
    {"trainable_token_indices": [3, 5]},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_change_is_what_merging_adds(base, tmp_path, kind):
    """Against merge_and_unload() − base, of the adapter as it was trained."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base)
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]} | kind
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(plain, LoraConfig(**options))
        for _, p in tuned.named_parameters():
            if p.requires_grad:
                p.data += 0.05 * torch.randn_like(p)
        tuned.save_pretrained(tmp_path / "a")
        merged = dict(tuned.merge_and_unload().named_parameters())
    truth = {}
    for name, p in merged.items():
        if not torch.equal(p, before[name]):
            truth[name.removesuffix(".weight")] = float((p.detach().double() - before[name].double()).norm())
    study = adapters(tmp_path / "a", base)
    rows = {row["site"]: row for row in study.tables["modules"].where(measure="relative_norm")}
    assert rows.keys() == truth.keys()
    for site, norm in truth.items():
        assert rows[site]["norm"] == pytest.approx(norm, rel=2e-4), site
    assert not study.warnings


@pytest.mark.parametrize("init", ["corda", "lora_ga", "pissa_niter_4"])
def test_an_initialisation_that_cannot_be_repeated_is_refused(base, tmp_path, init):
    folder = plant(tmp_path / "a", base, {Q0: (np.ones((32, R)), np.ones((R, 32)))}, init_lora_weights=init)
    with pytest.raises(TransectError, match=f"began from {init}"):
        adapters(folder, base)


def test_what_no_merge_can_hold_is_named(base, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"target_modules": ["q_proj"], "lora_bias": True, "init_lora_weights": False}
        get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, **options)
        ).save_pretrained(tmp_path / "a")
    study = adapters(tmp_path / "a", base)
    assert len(study.tables["modules"].where(measure="relative_norm")) == 3
    assert "model.layers.0.self_attn.q_proj.lora_B.bias" in study.warnings[0]


def test_a_full_fine_tune_goes_alone(base, tmp_path):
    """A planted change of one matrix, one norm and the embedding (tied to nothing): a row each, no other."""
    rng = np.random.default_rng(7)
    tuned = shutil.copytree(base, tmp_path / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    delta = rng.standard_normal((32, 1)) @ rng.standard_normal((1, 32)) * 0.01
    tensors[f"{Q0}.weight"] = tensors[f"{Q0}.weight"] + delta.astype(np.float32)
    embedding = next(n for n in tensors if n.endswith("embed_tokens.weight"))
    tensors[embedding] = tensors[embedding] * np.float32(1.01)
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    study = adapters(tuned, base)
    rows = study.tables["modules"].where(measure="relative_norm")
    assert {Q0, embedding.removesuffix(".weight")} <= set(rows.values("site"))
    assert value(study, Q0, "stable_rank", run="tuned")["value"] == pytest.approx(1, abs=1e-2)
    outside = study.tables["layers"].where(measure="relative_norm_of_module")
    assert outside.values("module")[0] == "embed_tokens"
    assert outside.column("value")[0] == pytest.approx(0.01, rel=1e-3)
    assert "W − W_base, per module" in study.methods[0]
    assert "alpha" not in study.methods[0]
    files = {f.stem for f in save_all(study, tmp_path / "out", ("png",))}
    assert files == {"layers", "spectra", "energy", "ranks"}
    with pytest.raises(TransectError, match="is a full fine-tune, and so is"):
        adapters(tuned, base, full=str(tuned))
    with pytest.raises(TransectError, match="changes no weight"):
        adapters(shutil.copytree(base, tmp_path / "same"), base)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, f"B A is scaled by alpha / r = {ALPHA / R:.4g} in 2 modules"),
        ({"use_rslora": True}, f"B A is scaled by alpha / √r = {ALPHA / np.sqrt(R):.4g} in 2 modules"),
        (
            {"alpha_pattern": {"q_proj": 30}},
            f"scaled by alpha / r = {ALPHA / R:.4g} in 1 modules, {30 / R:.4g} in 1 modules",
        ),
    ],
)
def test_methods_state_the_scaling_in_force(base, tmp_path, config, said):
    rng = np.random.default_rng(3)
    factors = {Q0: (rng.standard_normal((32, R)), rng.standard_normal((R, 32)))}
    factors[DOWN1] = rng.standard_normal((32, R)), rng.standard_normal((R, 48))
    study = adapters(plant(tmp_path / "a", base, factors, **config), base)
    assert said in study.methods[0]


@pytest.mark.parametrize("method", ["loha", "ia3", "adalora", "norms"])
def test_every_method_of_peft_that_merges_has_the_change_that_merging_makes(method, base, tmp_path):
    """‖ΔW‖ / ‖W‖ of every changed tensor is that of merge_and_unload() less the base."""
    import peft
    import torch

    two = {"target_modules": ["q_proj", "v_proj"]}
    configs = {
        "loha": lambda: peft.LoHaConfig(r=2, **two),
        "ia3": lambda: peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        "adalora": lambda: peft.AdaLoraConfig(init_r=3, target_r=2, total_step=9, tinit=1, tfinal=1, **two),
        "norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]),
    }
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft about layers that it does not expect
        plain = opened(base)
        before = {k: v.clone() for k, v in plain.state_dict().items()}
        tuned = peft.get_peft_model(plain, configs[method]())
        for weight in (w for w in tuned.parameters() if w.requires_grad):
            weight.data += 0.1 * torch.randn_like(weight)
        tuned.save_pretrained(tmp_path / "a")
        after = tuned.merge_and_unload().state_dict()
    truth = {
        k.removesuffix(".weight"): float((after[k] - w).norm() / w.norm())
        for k, w in before.items()
        if not torch.equal(after[k], w)
    }
    study = adapters(tmp_path / "a", base)
    sizes = {r["site"]: r["value"] for r in study.tables["modules"].where(measure="relative_norm")}
    assert sizes == pytest.approx(truth, rel=1e-4), f"{len(truth)} tensors"
    assert save_all(study, tmp_path / "out", ("png",)), "norms alone have no spectrum, and a figure of sizes"
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["peft_type"] in study.methods[0]


def test_an_adapter_on_an_adapted_base(base, tmp_path):
    """The base of a second adapter is the first one merged: ΔW is the second's own, whatever the first is."""
    draw = np.random.default_rng(3)
    first, second = ((draw.standard_normal((32, R)), draw.standard_normal((R, 32))) for _ in range(2))
    one = plant(tmp_path / "one", base, {Q0: first})
    two = plant(tmp_path / "two", base, {Q0: second})
    study = adapters(two, f"{base}+{one}")
    assert value(study, Q0, "relative_norm")["norm"] == pytest.approx(
        ALPHA / R * np.linalg.norm(second[0] @ second[1]), rel=1e-4
    )


def test_a_full_fine_tune_of_one_block_beside_an_adapter_is_drawn(base, tmp_path):
    """Modules that the fine-tune left alone have no share and no control: gaps, not a traceback."""
    draw = np.random.default_rng(4)
    Q1 = Q0.replace("layers.0.", "layers.1.")
    pair = {m: (draw.standard_normal((32, R)), draw.standard_normal((R, 32))) for m in (Q0, Q1)}
    tuned = opened(base)
    tuned.model.layers[0].self_attn.q_proj.weight.data += 0.1
    tuned.save_pretrained(tmp_path / "full")
    shutil.copy(f"{base}/tokenizer.json", tmp_path / "full")
    shutil.copy(f"{base}/tokenizer_config.json", tmp_path / "full")
    study = adapters(plant(tmp_path / "a", base, pair), base, full=str(tmp_path / "full"))
    assert any("in block 0 (" in f for f in study.findings)
    assert save_all(study, tmp_path / "out", ("png",))


@pytest.mark.fault(
    "bad input",
    "an adapter that repeats blocks of its base",
    "refused by name: no weight stands beside the repeated ones",
)
def test_repeated_blocks_are_refused_by_name(base, tmp_path):
    draw = np.random.default_rng(5)
    pair = draw.standard_normal((32, R)), draw.standard_normal((R, 32))
    folder = plant(tmp_path / "a", base, {Q0: pair}, layer_replication=[[0, 2], [1, 3]])
    with pytest.raises(TransectError, match="layer_replication"):
        adapters(folder, base)


def opened(base):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base)
