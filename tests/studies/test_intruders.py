"""Intruders: a planted vector is found, a scaled copy of W has none, and losses are those of the weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import transect as ts
from planted_adapter import DOWN1, Q0, R, plant
from tiny import make_texts, save_tiny
from transect.cli.main import cli
from transect.errors import TransectError
from transect.models.losses import losses
from transect.studies.adapters.changes import Change, adapter_changes, base_weights
from transect.studies.adapters.figures_texts import draw_adapter_intruders
from transect.studies.adapters.forgetting import Tuned, fisher, parts_of
from transect.studies.adapters.intruders import Sought, leading, sought
from transect.studies.adapters.study import AdapterOptions
from transect.work.options import group


def change(W: np.ndarray, D: np.ndarray) -> Change:
    U, s, V = np.linalg.svd(D, full_matrices=False)
    return Change("model.layers.0.self_attn.q_proj", U, s, V, W, None)


def matrix(rng: np.random.Generator, m: int, n: int, low: float = 0.5) -> np.ndarray:
    """Singular values from 5 down to `low`, apart from each other."""
    U, V = (np.linalg.qr(rng.standard_normal((k, min(m, n))))[0] for k in (m, n))
    return (U * np.geomspace(5, low, min(m, n))) @ V.T


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_leading_vectors_are_those_of_the_decomposition(shape: tuple[int, int]) -> None:
    W = matrix(np.random.default_rng(0), *shape)
    left, values, right = leading(W, 7)
    U, s, V = np.linalg.svd(W)
    assert np.allclose(values, s[:7])
    assert np.allclose(np.abs((left * U[:, :7]).sum(0)), 1)
    assert np.allclose((left * values) @ right, (U[:, :7] * s[:7]) @ V[:7])


def test_a_planted_intruder_is_found_and_a_scaled_copy_has_none() -> None:
    """W has rank 20 of 40: a new output direction of strength 30 lies in none of its singular vectors,
    and comes first in W + ΔW, whose other values are 5, 4.4, 3.9 …"""
    rng = np.random.default_rng(1)
    W = matrix(rng, 40, 20)
    new = np.linalg.qr(np.concatenate([np.linalg.svd(W)[0][:, :20], rng.standard_normal((40, 1))], 1))[0][
        :, -1
    ]
    weakest = np.linalg.svd(W)[2][-1]
    head, *rows = sought(Sought("r", change(W, 30 * np.outer(new, weakest)), 10, 0.5, 5, 0))
    assert head["value"] == 1
    assert [r["index"] for r in rows if r["intruder"]] == [1]
    assert rows[0]["absolute"] == pytest.approx(30, rel=0.01)
    assert rows[0]["value"] < 0.05
    head, *rows = sought(Sought("r", change(W, 0.7 * W), 10, 0.5, 5, 0))
    assert head["value"] == 0
    assert all(r["value"] == pytest.approx(1, abs=1e-6) for r in rows)
    assert head["null"] > 0, "a random change as large as W has some"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A tiny base, and an adapter with one loud new direction in two matrices."""
    folder, rng = tmp_path_factory.mktemp("intruders"), np.random.default_rng(2)
    base = str(save_tiny(folder / "llama", "llama"))
    factors = {Q0: (rng.standard_normal((32, R)), 0.05 * rng.standard_normal((R, 32)))}
    factors[DOWN1] = rng.standard_normal((32, R)), 0.05 * rng.standard_normal((R, 48))
    return base, str(plant(folder / "a", base, factors))


def test_losses_are_those_of_the_weights(run: tuple[str, str]) -> None:
    """At 1 the model is base + adapter, at 0 the base; all singular parts together are the matrix."""
    base, adapter = run
    found = ts.studies.adapters(
        adapter, base, intruders=True, texts=make_texts(9), other_texts=make_texts(8, 1), top=4, workers=1
    )
    table = found.tables["losses"]
    for spec, scale in ((base, 0.0), (f"{base}+{adapter}", 1.0)):
        sums, tokens = losses(
            ts.open_model(spec, dtype="float32", device="cpu"), make_texts(9), max_length=96
        )
        row = next(iter(table.where(texts="task", path="line", scale=scale)))
        assert row["value"] == pytest.approx(sums.sum() / tokens.sum(), rel=1e-5)
        assert row["low"] < row["value"] < row["high"]
    assert {r["path"] for r in table} == {"line", "intruders", "others"}
    line = {r["scale"]: r["value"] for r in table.where(texts="other", path="line", measure="loss")}
    barrier = next(iter(table.where(texts="other", measure="barrier")))
    t = barrier["scale"]
    assert barrier["value"] == pytest.approx(line[t] - (1 - t) * line[0] - t * line[1], abs=1e-9)
    assert found.tables["intruders"].where(measure="intruders_of_block").column("value").sum() > 0
    changes = adapter_changes(Path(adapter), {}, base)[0]
    assert {c.name for c in changes} == {Q0, DOWN1}
    for c in changes:
        whole, others = parts_of([c], {c.name: list(range(32))}, 99)
        assert np.allclose(whole[c.name], c.weight + (c.left * c.values) @ c.right, atol=1e-5)
        assert not others[c.name].any()


def test_a_quiet_change_has_no_intruder_and_nothing_is_scaled(run: tuple[str, str], tmp_path: Path) -> None:
    """A hundredth of the loud adapter: 0 of the leading vectors, on an axis of whole numbers."""
    base, _ = run
    rng = np.random.default_rng(6)
    quiet = plant(
        tmp_path / "q", base, {Q0: (rng.standard_normal((32, R)), 5e-4 * rng.standard_normal((R, 32)))}
    )
    found = ts.studies.adapters(quiet, base, intruders=True, texts=make_texts(8), top=4, draws=2, workers=1)
    total = next(iter(found.tables["intruders"].where(measure="intruders_of_run")))
    assert (total["value"], total["of"], total["null"]) == (0, 4, 0)
    assert any("no intruder to scale down" in line for line in found.findings)
    figures = {f.name: f for f in found.figures}
    assert figures["forgetting"].title == "Loss from base to tuned"
    assert "dashed" not in figures["forgetting"].caption
    (ax,) = draw_adapter_intruders(found, figures["intruders"]).axes
    assert all(y == round(y) for y in ax.get_yticks())


def test_fisher_is_the_mean_squared_gradient_of_whole_texts(run: tuple[str, str]) -> None:
    base, _ = run
    W = base_weights(base)[Q0].astype(float)
    D = np.zeros_like(W)
    D[3, 5] = 2.0
    tuned = Tuned(base, [change(W, D)])
    texts = make_texts(3)
    row = fisher(tuned, texts, group({}, AdapterOptions))[0]
    model = ts.open_model(base, dtype="float32", device="cpu")
    weight = model.model.get_submodule(Q0).weight.requires_grad_(True)
    square, tokens = 0.0, 0
    for text in texts.texts:
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        logits = model.model(input_ids=ids).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")
        square += float(torch.autograd.grad(loss, weight)[0][3, 5]) ** 2
        tokens += ids.shape[1] - 1
    assert row["value"] == pytest.approx(square / tokens * 4 / 2, rel=1e-4)


def test_the_command_and_bad_input(run: tuple[str, str], tmp_path: Path) -> None:
    base, adapter = run
    args = ["adapters", adapter, "--base", base, "--intruders", "--out", str(tmp_path / "o"), "--draws", "2"]
    args += ["--formats", "svg"]
    ran = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    assert "are intruders" in ran.output
    assert (tmp_path / "o/figures/intruders.svg").exists()
    with pytest.raises(TransectError, match="with intruders"):
        ts.studies.adapters(adapter, base, texts=make_texts(9))
