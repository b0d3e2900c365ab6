"""The depth study on models with planted blocks: what removal must cost, and what it must not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import transect as ts
from planted import planted_store
from tiny import DECODERS, make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models.edit import Blocks
from transect.models.losses import losses
from transect.studies.depth.edits import compared, edits
from transect.studies.depth.similar import by_token
from transect.studies.judging import drawn

IDLE, LOUD = 1, 2
IDS = torch.arange(5, 14)[None]


def planted_model(family: str = "llama", layers: int = 5) -> torch.nn.Module:
    """Block 1 writes nothing; block 2's MLP writes 40 × as much as it did."""
    made = tiny_model(family, num_hidden_layers=layers)
    blocks = made.base_model.layers
    with torch.no_grad():
        for part in (blocks[IDLE].self_attn.o_proj, blocks[IDLE].mlp.down_proj):
            part.weight.zero_()
        blocks[LOUD].mlp.down_proj.weight.mul_(40)
    return made


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ts.Study:
    folder = tmp_path_factory.mktemp("depth")
    planted_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    given = {"judges": 12, "longest": 12, "halves": 20, "groups": 4, "spans": [3], "workers": 1}
    return ts.studies.depth(str(folder / "model"), texts=make_texts(14), out=folder / "out", **given)


@pytest.mark.parametrize("family", DECODERS)
def test_edits_do_what_they_say_in_every_family(family: str) -> None:
    """Swapping twice, or running every block in its place, is the whole model; what is edited is put back."""
    blocks = Blocks(ts.wrap_model(tiny_model(family), tiny_tokenizer(), family))
    whole = blocks.logits(IDS)
    with blocks.routed({0: (0,), 1: (1,), 2: (2,)}):
        assert torch.allclose(blocks.logits(IDS), whole)
    with blocks.routed({1: ()}):
        removed = blocks.logits(IDS)
    assert not torch.allclose(removed, whole, atol=1e-5)
    assert torch.equal(blocks.logits(IDS), whole)


@pytest.mark.parametrize("family", DECODERS)
def test_what_lies_before_an_edit_is_not_run_again_and_no_bit_changes(family: str) -> None:
    """Each edit from what the blocks gave before equals the edit of a whole pass, of a padded batch too; only
    the blocks from the first edited position on are run."""
    blocks = Blocks(ts.wrap_model(tiny_model(family), tiny_tokenizer(), family))
    mask = torch.ones_like(IDS)
    mask[-1, -2:] = 0
    logits, gave = blocks.remembered(IDS, mask)
    assert torch.equal(logits, blocks.logits(IDS, mask))
    ran: list[int] = []
    for routes, run in (({1: ()}, 1), ({2: (2, 2)}, 2), ({1: (2,), 2: (1,)}, 2), ({0: ()}, 2)):
        with blocks.routed(routes):
            afresh = blocks.logits(IDS, mask)
        ran.clear()
        inner = [sub for b in blocks.blocks for sub in list(b.children())[:1]]
        hooks = [sub.register_forward_hook(lambda *_: ran.append(1)) for sub in inner]
        with blocks.routed(routes, gave):
            resumed = blocks.logits(IDS, mask)
        for hook in hooks:
            hook.remove()
        assert torch.equal(resumed, afresh), routes
        assert len(ran) == run, routes


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_removed_block_is_a_shorter_model(family: str) -> None:
    """The same numbers as a model whose list of blocks lacks one, holds one twice, or holds two the other way
    round."""
    blocks = Blocks(ts.wrap_model(tiny_model(family), tiny_tokenizer(), family))
    usual = blocks.logits(IDS)
    for routes, order in (({1: ()}, [0, 2]), ({1: (1, 1)}, [0, 1, 1, 2]), ({0: (1,), 1: (0,)}, [1, 0, 2])):
        with blocks.routed(routes):
            told = blocks.logits(IDS)
        other = tiny_model(family)
        name = "layers" if family == "llama" else "h"
        own = getattr(other.base_model, name)
        setattr(other.base_model, name, torch.nn.ModuleList([own[k] for k in order]))
        other.config.num_hidden_layers = len(order)
        with torch.inference_mode():
            expected = other(input_ids=IDS, use_cache=False).logits
        assert torch.allclose(told, expected, atol=1e-6), order
        assert torch.equal(blocks.logits(IDS), usual), "afterwards every block runs itself"
        assert not any("forward" in vars(block) for block in blocks.blocks), "by its own method"


def test_states_are_read_out_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    blocks = Blocks(ts.wrap_model(model, tiny_tokenizer(), "llama"))
    states = torch.randn(7, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    whole = blocks.readout(states)
    monkeypatch.setattr("transect.models.edit.ROWS", 3)
    assert torch.allclose(blocks.readout(states), whole, atol=1e-6)


@pytest.mark.fault("bad input", "a model whose blocks cannot be run one by one", "refused, naming the model")
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_what_cannot_be_edited_is_refused_by_name(family: str) -> None:
    with pytest.raises(TransectError, match=family):
        Blocks(ts.wrap_model(tiny_model(family), tiny_tokenizer(), family))
    odd = tiny_model("llama")
    odd.base_model.layers[2] = odd.base_model.layers[1]  # one block for two places, as in ALBERT
    with pytest.raises(TransectError, match="odd"):
        Blocks(ts.wrap_model(odd, tiny_tokenizer(), "odd"))


def test_an_identity_block_costs_nothing_and_a_loud_one_most(study: ts.Study) -> None:
    damage = study.tables["damage"].where(edit="remove", blocks=1)
    kl = damage.where(measure="kl_divergence").column("value")
    assert kl[IDLE] == pytest.approx(0, abs=1e-7)
    assert kl.argmax() == LOUD
    assert damage.where(measure="top1_agreement").column("value")[IDLE] == 1
    assert damage.where(measure="loss_increase").column("value")[IDLE] == pytest.approx(0, abs=1e-6)
    worth = study.tables["worth"].where(edit="remove", blocks=1)
    most = worth.where(measure="most_damage")
    assert (most.column("site")[0], most.column("support")[0]) == (f"resid.{LOUD}", 1)
    influence = study.tables["distances"].where(measure="block_influence", site=f"resid.{IDLE}", apart=1)
    assert influence.column("value")[0] == pytest.approx(0, abs=1e-6)


def test_numbers_are_those_of_the_formulas(study: ts.Study, tmp_path: Path) -> None:
    """Loss, KL and the angle by themselves, from the model and its states."""
    row = next(iter(study.tables["damage"].where(edit="remove", blocks=1, site=f"resid.{LOUD}")))
    store = ts.open_store(study.provenance["runs"][0]["path"])
    blocks, rng = Blocks(ts.open_model(store.manifest["model"]["spec"])), np.random.default_rng(0)
    kl, count = 0.0, 0
    for i in drawn(store, "depth", 12, 0):
        ids = torch.tensor(np.asarray(store.token_ids(i))[:12].astype(int))[None]
        with blocks.routed({LOUD: ()}):
            other = blocks.logits(ids)[0, :-1].double().log_softmax(-1)
        base = blocks.logits(ids)[0, :-1].double().log_softmax(-1)
        kl += float((base.exp() * (base - other)).sum())
        count += len(base)
    assert (row["value"], row["n"]) == (pytest.approx(kl / count, rel=1e-4), count)
    X = rng.normal(size=(2, 7, 5))
    cosine = (X[0] * X[1]).sum(-1) / np.linalg.norm(X[0], axis=-1) / np.linalg.norm(X[1], axis=-1)
    found = by_token(X)
    assert np.allclose(found["angular_distance"][:, 0, 1], np.arccos(cosine) / np.pi)
    assert np.allclose(found["block_influence"][:, 0, 1], 1 - cosine)
    assert np.allclose(found["update_norm"][:, 0, 1], np.linalg.norm(X[1] - X[0], axis=-1))


def test_the_whole_loss_is_that_of_the_model(study: ts.Study) -> None:
    told, path = study.tables["damage"], study.provenance["runs"][0]["path"]
    store = ts.open_store(path)
    texts = make_texts(14).subset(drawn(store, "depth", 12, 0))
    total, count = losses(ts.open_model(store.manifest["model"]["spec"]), texts, max_length=12)
    assert told.column("whole_loss")[0] == pytest.approx(total.sum() / count.sum(), rel=1e-5)


def test_what_foretells_is_a_rank_correlation_with_its_support(study: ts.Study) -> None:
    rows = study.tables["prediction"].where(edit="remove", blocks=1, damage="kl_divergence")
    kl = study.tables["damage"].where(edit="remove", blocks=1, measure="kl_divergence").column("value")
    for name in ("angular_distance", "relative_update", "cka_distance"):
        looks = study.tables["distances"].where(measure=name, token="all", apart=1).column("value")
        assert rows.where(measure=name).column("value")[0] == pytest.approx(spearmanr(looks, kl).statistic)
    assert rows.column("support").sum() == pytest.approx(1)
    assert sum(rows.column("best")) == 1
    assert rows.where(measure="relative_update").column("value")[0] > 0.8
    assert all(r["p"] is None for r in rows), "blocks are no sample"


def test_edits_are_all_there_and_kl_is_zero_of_a_law_from_itself() -> None:
    assert [len(edits(6, [kind], ())) for kind in ("remove", "repeat", "swap")] == [6, 6, 5]
    assert len(edits(6, ["remove"], (2, 3))) == 6 + 5 + 4
    said = torch.randn(2, 4, 9).log_softmax(-1)
    kl, same = compared(said, said, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))
    assert kl.tolist() == [0, 0]
    assert same.tolist() == [4, 2]


@pytest.mark.fault("bad input", "a depth study without what it needs", "refused before any work")
def test_bad_input_is_refused(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "m", "llama")
    with pytest.raises(TransectError, match="8 are needed"):
        ts.studies.depth(str(model), texts=make_texts(4), out=tmp_path / "a")
    with pytest.raises(TransectError, match="edit 'shuffle'"):
        ts.studies.depth(str(model), texts=make_texts(9), out=tmp_path / "b", edit=["shuffle"])
    with pytest.raises(TransectError, match="spans"):
        ts.studies.depth(str(model), texts=make_texts(9), out=tmp_path / "c", spans=[9])
    rng = np.random.default_rng(0)
    store = planted_store(tmp_path / "p", [rng.normal(size=(80, 4)) for _ in range(4)], [8] * 10)
    with pytest.raises(TransectError):
        ts.studies.depth(store)
