"""The lens on models whose readouts are known: the last layer, idle blocks, an affine map, a token's own
direction."""

from pathlib import Path

import numpy as np
import pytest
import torch

import transect as ts
from planted import planted_store
from tiny import DECODERS, make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models.edit import Blocks
from transect.studies.lens.judge import scores
from transect.studies.lens.tuned import affine

TOKEN, LAST = 77, 4


def planted_model() -> torch.nn.Module:
    """Blocks 2 and 3 write nothing: what enters block 2 is all that leaves the last one."""
    made = tiny_model("llama", num_hidden_layers=LAST)
    with torch.no_grad():
        for block in made.base_model.layers[2:]:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        made.lm_head.weight.mul_(8)  # so that laws differ between tokens
    return made


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lens")
    planted_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = planted_model().lm_head.weight[TOKEN].detach().numpy()
    np.save(folder / "direction.npy", rows)
    return folder


@pytest.fixture(scope="module")
def study(at: Path) -> ts.Study:
    given = {"judges": 12, "longest": 14, "groups": 4, "workers": 1, "draws": 20}
    return ts.studies.lens(
        str(at / "model"), texts=make_texts(20), out=at / "out", shuffled_tokens=True,
        direction=[str(at / "direction.npy")], **given,
    )  # fmt: skip


@pytest.mark.parametrize("family", DECODERS)
def test_states_that_left_the_last_block_give_the_models_logits(family: str) -> None:
    """Also one row at a time, and more rows than a model has positions at once."""
    model = ts.wrap_model(tiny_model(family), tiny_tokenizer(), family)
    blocks, ids, kept = Blocks(model), torch.arange(5, 19)[None], []
    hook = blocks.blocks[-1].register_forward_hook(
        lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    whole = blocks.logits(ids)[0]
    hook.remove()
    assert torch.allclose(blocks.readout(kept[0][0]), whole, atol=1e-5)
    assert torch.allclose(blocks.readout(kept[0][0].repeat(12, 1))[-14:], whole, atol=1e-5)


@pytest.mark.parametrize("lens", ["logit", "tuned"])
def test_the_last_layer_is_the_output_and_idle_blocks_change_nothing(study: ts.Study, lens: str) -> None:
    table = study.tables["lens"].where(run="model", lens=lens)
    for site in ("resid.2", "resid.3", f"resid.{LAST}"):
        row = next(iter(table.where(site=site, measure="kl_divergence")))
        assert row["value"] == pytest.approx(0, abs=1e-5)
        assert table.where(site=site, measure="top1_agreement").column("value")[0] == 1
    kl = table.where(measure="kl_divergence").column("value")
    assert kl[0] > 0.02
    assert kl[1] > 0.01


def test_a_map_fitted_on_other_texts_comes_closer_than_no_map(study: ts.Study) -> None:
    table = study.tables["lens"].where(run="model", measure="kl_divergence", site="resid.0")
    tuned, logit = (table.where(lens=name).column("value")[0] for name in ("tuned", "logit"))
    assert tuned < logit
    assert (study.tables["lens"].where(measure="kl_divergence").column("null") > 0).all()


def test_an_affine_map_is_recovered_and_noise_leaves_the_state_as_it_is() -> None:
    rng = np.random.default_rng(0)
    X, M, b = (
        rng.normal(size=(400, 8)) * [5, 1, 1, 1, 1, 1, 0.3, 0.1],
        rng.normal(size=(8, 8)),
        rng.normal(size=8),
    )
    half = (np.arange(400) // 10 % 2).astype(float)
    made = affine(X, X @ M + b, half)
    new = rng.normal(size=(5, 8))
    assert np.allclose(made(new), new @ M + b, atol=1e-4)
    noise = affine(X[:40], X[:40] + rng.normal(size=(40, 8)), half[:40])
    assert np.linalg.norm(noise.A) < 0.5 * np.linalg.norm(affine(X, X @ M + b, half).A)


def test_scores_are_those_of_the_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    base, said = (torch.randn(6, 11, generator=generator).log_softmax(-1) for _ in range(2))
    following = torch.tensor([0, 3, 10, 2, 2, 5])
    told, p, q = scores(base, said, following), base.exp().numpy(), said.exp().numpy()
    assert told["kl_divergence"] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-5)
    assert told["entropy"] == pytest.approx(-(q * np.log(q)).sum(), rel=1e-5)
    ranks = [1 + int((row > row[k]).sum()) for row, k in zip(q, following.tolist(), strict=True)]
    assert told["log_rank"] == pytest.approx(np.log(ranks).sum(), rel=1e-6)
    assert told["top1_agreement"] == (p.argmax(1) == q.argmax(1)).sum()
    assert told["next_loss"] == pytest.approx(-np.log(q[range(6), following.numpy()]).sum(), rel=1e-5)


def test_no_text_is_judged_by_a_map_that_saw_it(at: Path, study: ts.Study) -> None:
    from transect.studies.lens.study import LensOptions, _ask
    from transect.work.options import group

    store = ts.open_store(at / "out/stores/model")
    tasks = _ask(store, ["resid.1"], group({"judges": 12, "folds": 3}, LensOptions)).tasks
    assert all(not set(task.judged) & set(task.others) for task in tasks)
    assert sorted(i for task in tasks for i in task.judged) == sorted({i for t in tasks for i in t.judged})
    assert sum(len(task.judged) for task in tasks) == 12
    assert study.tables["lens"].column("n_texts")[0] == 12


def test_a_tokens_own_direction_reads_out_that_token(study: ts.Study) -> None:
    table = study.tables["directions"]
    first = next(iter(table.where(sign="+", rank=1)))
    assert first["token_id"] == TOKEN
    assert first["value"] > max(first["null_high"], first["pairs_high"])
    assert any("is beyond those of random" in line for line in study.findings)


def test_the_difference_of_two_stores_is_a_direction(at: Path, tmp_path: Path, study: ts.Study) -> None:
    """A store whose last states are all moved along a token's direction, against the store itself."""
    store = ts.open_store(at / "out/stores/model")
    v, site = np.load(at / "direction.npy"), f"resid.{LAST}"
    X = store.read(site, np.arange(int(store.start[-1])))
    lengths = [int(n) for n in store.lengths]
    layers = [X * 0] * LAST + [X + 3 * v]
    moved = planted_store(tmp_path / "moved", layers, lengths, name="moved")
    told = ts.studies.lens(
        store,
        direction=[str(store.path), str(moved.path)],
        sites=site,
        judges=8,
        workers=1,
        draws=10,
        folds=2,
    )
    first = next(iter(told.tables["directions"].where(sign="+", rank=1)))
    assert (first["token_id"], first["direction"]) == (TOKEN, f"moved − model at {site}")


@pytest.mark.fault("bad input", "a lens over points that no head reads", "refused, with what the head reads")
def test_bad_input_is_refused(at: Path, tmp_path: Path, study: ts.Study) -> None:
    store = at / "out/stores/model"
    for given, word in (
        ({"direction": [str(tmp_path / "none.npy")]}, "no file"),
        ({"direction": ["a", "b", "c"]}, "3 directions"),
        ({"sites": "mlp.act"}, "no site"),
        ({"judges": 2}, "judges"),
    ):
        with pytest.raises(TransectError, match=word):
            ts.studies.lens(store, **given)
    np.save(tmp_path / "wide.npy", np.ones(7))
    with pytest.raises(TransectError, match="the head reads 32"):
        ts.studies.lens(store, direction=[str(tmp_path / "wide.npy")])
    np.save(tmp_path / "zero.npy", np.zeros(32))
    with pytest.raises(TransectError, match="no direction"):
        ts.studies.lens(store, direction=[str(tmp_path / "zero.npy")])
    encoder = save_tiny(tmp_path / "bert", "bert")
    with pytest.raises(TransectError, match="no next token"):
        ts.studies.lens(str(encoder), texts=make_texts(9), out=tmp_path / "o")
