"""What every callback does: capture fixed texts at some steps, measure a few layers, and say what it cost.

A look leaves training as it was: random numbers, gradients, and which modules are in training mode. Its store
lies in OUT/stores/checkpoint-NNNNN, where `transect evolve OUT` finds it.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.inference.sweep import sweep
from transect.measures.contract import Measure
from transect.measures.registry import find
from transect.models import sites
from transect.models.models import wrap_model
from transect.store.capture import capture
from transect.store.store import Store
from transect.texts.texts import Texts, open_texts

#: Wrappers whose inner model is whole on every process, by the name of their class.
WHOLE = ("DistributedDataParallel", "DataParallel", "OptimizedModule")
#: Parameters that hold a part of a weight only: class names of them and of their wrappers.
SHARDED = ("FullyShardedDataParallel", "FSDPModule", "DTensor", "DeepSpeedEngine", "FlatParameter")


class Watch:
    """Fixed texts, looked at through a model at chosen steps.

    Args:
        texts: Texts, or a spec that `open_texts` takes: a file, reviews:100, ….
        out: Folder for the stores, one a look.
        steps: "log" (powers of two), a number (every so many), or the steps; 0 and the last belong to all.
        measures: Of one cloud, or of two: these compare with the first look, on the same tokens.
        layers: Layers of the residual stream that are measured; by default the first, middle and last.
        capture: Options of `capture`: sites, layers, positions, pool, max_length, batch_tokens.
        design: Options of a sweep: n, groups, tokens, position0.
    """

    def __init__(
        self,
        texts: Any,
        out: str | Path,
        *,
        steps: str | int | Sequence[int] = "log",
        measures: Sequence[str] = ("effective_rank", "cka"),
        layers: Sequence[int] | None = None,
        capture: dict[str, Any] | None = None,
        design: dict[str, Any] | None = None,
    ) -> None:
        self.texts = texts if isinstance(texts, Texts) else open_texts(texts)
        self.out, self.steps, self.layers = Path(out), _checked_steps(steps), layers
        self.measures: list[Measure] = [find(name) for name in measures]
        if odd := [m.name for m in self.measures if "y" in m.data or (m.data == ("X", "Y") and not m.paired)]:
            raise TransectError(
                f"{odd[0]} is no measure of one cloud, nor of the same tokens in two.", "Leave it out."
            )
        self.options: dict[str, Any] = capture or {}
        self.design: dict[str, Any] = {"groups": 5, "permutations": 0} | (design or {})
        self.first: Store | None = None
        self.last: int | None = None
        self.seconds, self.begun = 0.0, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a look is due at this step, the first of training being 0."""
        if step == 0 or self.steps == "log":
            return step & (step - 1) == 0
        return step % self.steps == 0 if isinstance(self.steps, int) else step in tuple(self.steps)

    def begin(self, model: Any) -> None:
        """Refuse what cannot be looked at, before training begins. Raises: TransectError."""
        sites.discover(unwrapped(model))
        self.seconds, self.begun = 0.0, time.monotonic()

    def look(self, model: Any, tokenizer: Any, step: int) -> dict[str, float]:
        """Capture and measure at a step: name → number, for the trainer's log; {} where it was done."""
        if self.last == step:
            return {}
        begun = time.monotonic()
        if tokenizer is None:
            raise TransectError("the trainer knows no tokenizer.", "Give it processing_class=TOKENIZER.")
        with untouched(unwrapped(model)) as inner:
            opened = wrap_model(inner, tokenizer, f"step {step}")
            opened.source = {**opened.source, "step": step}
            folder = self.out / "stores" / f"checkpoint-{step:05d}"
            store = capture(opened, self.texts, folder, **self.options)
        self.first = self.first or store
        values = self._measured(store)
        self.last = step
        self.seconds += time.monotonic() - begun
        share = self.seconds / max(time.monotonic() - self.begun, 1e-9)
        return values | {"transect/seconds": time.monotonic() - begun, "transect/share_of_training": share}

    def _measured(self, store: Store) -> dict[str, float]:
        values: dict[str, float] = {}
        names = [s for s in store.sites if sites.family(s).endswith("resid")] or store.sites
        wanted = {names[k] for k in (0, len(names) // 2, -1)}
        if self.layers is not None:
            wanted = {s for s in names if sites.layer(s) in self.layers}
        for m in self.measures:
            two = m.data == ("X", "Y")
            runs = [self.first, store] if two and self.first is not store else [store]
            if two and len(runs) == 1:
                continue
            options = {"sites": ",".join(sorted(wanted, key=sites.order)), "workers": 1, **self.design}
            for row in sweep(m, [s for s in runs if s], pairs="same", **options):
                name = f"transect/{m.name}{'_to_first' if two else ''}/{row['site']}"
                ends = {name: row["value"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
                values |= {k: float(v) for k, v in ends.items() if v is not None}
        return values


def _checked_steps(steps: str | int | Sequence[int]) -> str | int | tuple[int, ...]:
    if isinstance(steps, str | int) and (steps == "log" or (isinstance(steps, int) and steps > 0)):
        return steps
    if isinstance(steps, str | int) or not all(isinstance(s, int) and s >= 0 for s in steps):
        raise TransectError(f"steps={steps!r}.", 'Give "log", every how many steps, or a list of steps.')
    return tuple(steps)


def unwrapped(model: Any) -> Any:
    """The model itself, out of wrappers that leave it whole. Raises: TransectError for a sharded one."""
    while type(model).__name__ in WHOLE:
        model = getattr(model, "_orig_mod", None) or model.module
    kinds = [k.__name__ for one in (model, *model.modules(), *model.parameters()) for k in type(one).__mro__]
    parts = [k for k in kinds if k in SHARDED]
    if any(hasattr(p, "ds_id") for p in model.parameters()):
        parts.append("DeepSpeed ZeRO-3")
    if parts:
        raise TransectError(
            f"the model is sharded ({parts[0]}): no process holds its weights.",
            "Keep checkpoints and capture those: transect evolve RUN --texts TEXTS.",
        )
    return model


@contextlib.contextmanager
def untouched(model: Any) -> Iterator[Any]:
    """The model in eval mode; its modules' modes and all random numbers are afterwards what they were."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield model
    finally:
        for module, training in modes:
            module.training = training
