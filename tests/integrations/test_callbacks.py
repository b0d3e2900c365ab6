"""Callbacks: real trainers on a tiny random model. What is logged is what the store holds, and
training is the same with them as without."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

import transect as ts
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.integrations import TransectCallback
from transect.integrations.watch import Watch, unwrapped

TEXTS = make_texts(12)
DESIGN = {"n": 24, "groups": 3}


class Rows(torch.utils.data.Dataset):
    """Token ids drawn at random, twelve of eight."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(3, 290, (8,), generator=torch.Generator().manual_seed(k))
        return {"input_ids": ids, "labels": ids}


class Logged(TrainerCallback):
    """What a logger such as TensorBoard's is handed."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.seen.append((state.global_step, dict(logs)))


def train(out: Path, *callbacks: TrainerCallback, steps: int = 5) -> torch.nn.Module:
    model = tiny_model("llama", attention_dropout=0.2)
    args = TrainingArguments(
        str(out), max_steps=steps, per_device_train_batch_size=2, learning_rate=1e-2, seed=3, use_cpu=True,
        report_to=[], save_strategy="no", logging_steps=2, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, args, train_dataset=Rows(), processing_class=tiny_tokenizer(), callbacks=list(callbacks)
    )
    trainer.train()
    return model


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Logged, torch.nn.Module]:
    at, logged = tmp_path_factory.mktemp("watched"), Logged()
    callback = TransectCallback(TEXTS, at / "watch", design=DESIGN, layers=[1, 3])
    return at, logged, train(at / "hf", callback, logged)


def test_stores_lie_at_the_steps_asked_and_hold_the_model_of_that_step(watched) -> None:
    at, _, model = watched
    stores = sorted((at / "watch" / "stores").iterdir())
    assert [s.name for s in stores] == [f"checkpoint-{k:05d}" for k in (0, 1, 2, 4, 5)]
    for k, weights in ((0, tiny_model("llama")), (-1, model.eval())):
        own = ts.capture(ts.wrap_model(weights, tiny_tokenizer(), "own"), TEXTS, at / f"own{k}")
        assert (own.points("resid.3") == ts.open_store(stores[k]).points("resid.3")).all()


def test_the_trainers_own_log_has_values_intervals_and_what_it_cost(watched) -> None:
    at, logged, _ = watched
    looks = {step: logs for step, logs in logged.seen if "transect/seconds" in logs}
    assert list(looks) == [0, 1, 2, 4, 5]
    stores = [ts.open_store(at / "watch" / "stores" / f"checkpoint-{k:05d}") for k in (0, 5)]
    wanted = ts.sweep("effective_rank", stores[1], sites="resid.3", permutations=0, workers=1, **DESIGN)
    name = "transect/effective_rank/resid.3"
    for end, column in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert looks[5][f"{name}{end}"] == pytest.approx(wanted.column(column)[0])
    wanted = ts.sweep("cka", stores, pairs="same", sites="resid.3", permutations=0, workers=1, **DESIGN)
    assert looks[5]["transect/cka_to_first/resid.3"] == pytest.approx(wanted.column("value")[0])
    assert "transect/cka_to_first/resid.3" not in looks[0]
    assert not [n for n in looks[5] if n.endswith("resid.2")], "only the layers asked for"
    assert 0 < looks[5]["transect/share_of_training"] <= 1
    assert all(isinstance(v, int | float) for logs in looks.values() for v in logs.values())


def test_training_is_the_same_with_it_as_without(watched, tmp_path: Path) -> None:
    _, _, model = watched
    bare = train(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), bare.parameters(), strict=True))


def test_evolve_reads_what_it_leaves(watched, tmp_path: Path) -> None:
    at, _, _ = watched
    study = ts.studies.evolve(
        str(at / "watch"), out=tmp_path, n=24, groups=3, gradients=False, window=4, workers=1
    )
    assert {*study.tables["evolution"].column("step")} == {0, 1, 2, 4, 5}
    change = study.tables["change"].where(curve="cka to first", site="resid.3", step=5)
    assert change.column("value")[0] < 1


def test_steps() -> None:
    for steps, due in (("log", [0, 1, 2, 4, 8]), (3, [0, 3, 6, 9]), ([2, 7], [0, 2, 7])):
        assert [k for k in range(10) if Watch(TEXTS, "x", steps=steps).due(k)] == due


@pytest.mark.fault(
    "bad input",
    "a callback on a model whose blocks are not found, that is sharded, or without a tokenizer",
    "refused by name as training begins; nothing is written",
)
def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    watch = Watch(TEXTS, tmp_path / "w")
    bare = torch.nn.Linear(2, 2)
    bare.config = tiny_model("llama").config
    with pytest.raises(TransectError, match="found no list of 3 blocks"):
        watch.begin(bare)
    with pytest.raises(TransectError, match="no tokenizer"):
        watch.look(tiny_model("llama"), None, 0)

    class FullyShardedDataParallel(torch.nn.Module):
        """A wrapper of that name; the real one needs a process group."""

    sharded = FullyShardedDataParallel()
    sharded.inner = tiny_model("llama")
    with pytest.raises(TransectError, match="FullyShardedDataParallel"):
        unwrapped(sharded)
    for steps in (0, "often", [-1]):
        with pytest.raises(TransectError, match="every how many steps"):
            Watch(TEXTS, "x", steps=steps)
    with pytest.raises(TransectError, match="nor of the same tokens"):
        Watch(TEXTS, "x", measures=["sinkhorn"])
    with pytest.raises(TransectError, match="attach"):
        TransectCallback(TEXTS, tmp_path / "w").on_train_begin(None, None, None, model=None)
    assert not (tmp_path / "w").exists()


def test_a_model_that_fsdp_sharded_is_refused_and_a_data_parallel_one_is_taken_whole(tmp_path: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    try:
        model = tiny_model("llama")
        assert unwrapped(torch.nn.parallel.DistributedDataParallel(model)) is model
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        with pytest.raises(TransectError, match="sharded"):
            unwrapped(fully_shard(model, mesh=mesh))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings(  # Lightning's own: how it calls torch, and advice on loaders and intervals
    "ignore:.isinstance.treespec, LeafSpec:FutureWarning",
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning",
)
def test_lightning_logs_and_leaves_the_same(tmp_path: Path) -> None:
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    from transect.integrations import LightningCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny_model("llama")

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.model(**batch).loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-2)

    logger = CSVLogger(tmp_path, "log")
    callback = LightningCallback(TEXTS, tmp_path / "w", tokenizer=tiny_tokenizer(), steps=2, design=DESIGN)
    trainer = lightning.Trainer(
        max_steps=3, accelerator="cpu", logger=logger, callbacks=[callback], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(Rows(), batch_size=2))
    assert [s.name[-2:] for s in sorted((tmp_path / "w" / "stores").iterdir())] == ["00", "02", "03"]
    logger.save()
    told = Path(logger.log_dir, "metrics.csv").read_text().splitlines()
    assert "transect/effective_rank/resid.3_low" in told[0]
    assert len(told) == 4
    with pytest.raises(TransectError, match=r"no transformers model at \.net"):
        LightningCallback(TEXTS, tmp_path, tokenizer=None, attribute="net")._model(trainer.lightning_module)
