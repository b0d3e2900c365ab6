"""Runs of a study: stores that are there, or models captured now; and the controls that are captured beside
them.

Every study takes the same first argument: stores, folders of stores, or models and model specs with `texts`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import folder_name, local
from transect.inference.intervals import student
from transect.models import sites as names_of
from transect.models.models import Model, open_model
from transect.store.capture import capture, recapture
from transect.store.recapture import model_or_refuse, reopen
from transect.store.store import Store, open_store
from transect.texts.texts import Texts, open_texts
from transect.work.options import Work

Run = Store | Model | str | Path
Runs = Run | Sequence[Run]
Progress = Callable[[str, int, int], None] | None


def listed(runs: Runs) -> list[Run]:
    """One run or several, as a list; TransectError for none."""
    several = [runs] if isinstance(runs, Store | Model | str | Path) else list(runs)
    if not several:
        raise TransectError("no run given.", "Name a store, or a model with --texts.")
    return several


def open_runs(
    runs: Runs,
    texts: str | Path | Texts | None = None,
    out: str | Path | None = None,
    *,
    max_length: int | None = None,
    seed: int = 0,
    sites: str | Sequence[str] = "resid",
    progress: Progress = None,
) -> list[Store]:
    """The stores of `runs`: opened where they are stores, captured from `texts` into OUT/stores where they
    are models, at `sites` (as options name them, with commas).

    Unfinished stores are refused here, before hours are spent; so are two runs of one name.
    """
    stores: list[Store] = []
    sites = names_of.asked(sites)
    opened = None if texts is None or out is None else open_texts(texts, seed=seed)
    for one in listed(runs):
        if isinstance(one, Store):
            stores.append(one)
        elif not isinstance(one, Model) and _is_store(one):
            stores.append(open_store(one))
        elif opened is None or out is None:
            raise TransectError(
                f"{one} is no store.", "Name a folder that transect capture wrote, or give --texts and --out."
            )
        else:
            if progress:
                progress(f"opening {one}"[:40], 0, 1)
            model = open_model(one)
            if progress:
                progress(f"opening {one}"[:40], 1, 1)
            model.name = _name(model.name, one, [s.name for s in stores])
            limit = max_length or length_limit(model)
            where = Path(out) / "stores" / folder_name(model.name)
            bar = bar_of(progress, f"capture {shortened(model.name)}")
            stores.append(capture(model, opened, where, sites=sites, max_length=limit, progress=bar))
    for store in stores:
        if store.unfinished:
            raise TransectError(
                f"{store.path}: {len(store.unfinished)} of {len(store.plan)} shards are not captured yet.",
                "Run the same capture again: it resumes.",
            )
    distinct(stores)
    return stores


def _is_store(path: str | Path) -> bool:
    return "://" in str(path) or any((local(path) / f).is_file() for f in ("manifest.json", "plan.json"))


def distinct(stores: Sequence[Store]) -> None:
    """TransectError when two runs share a name: figures and tables could not tell them apart."""
    names = [s.name for s in stores]
    if len(set(names)) < len(names):
        raise TransectError(
            f"runs share a name: {', '.join(names)}.",
            "Give each its own: --name of a capture, name=… of ts.capture.",
        )


def bar_of(progress: Progress, step: str) -> Callable[[int, int], None] | None:
    """A study's progress as a capture's."""
    return (lambda done, total: progress(step, done, total)) if progress else None


def shortened(name: str, most: int = 40) -> str:
    """A name that fits beside a bar, cut in the middle: what tells runs apart stands at the ends."""
    left = (most - 1) // 2
    return name if len(name) <= most else f"{name[:left]}…{name[left + 1 - most :]}"


def _name(name: str, source: Any, taken: Sequence[str]) -> str:
    """A folder's name, with its parent's in front where it is a checkpoint or the name is taken."""
    path = Path(str(source))
    if path.is_dir() and (name in taken or path.name.startswith("checkpoint-")):
        return f"{path.resolve().parent.name}/{path.name}"
    return name


def length_limit(model: Model) -> int:
    """Where to cut texts: the tokenizer's limit or the model's number of positions, whichever is less, at
    most 1024."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    return int(min(limit, model.tokenizer.model_max_length, 1024))


def random_control(
    store: Store, out: str | Path, *, seed: int = 0, progress: Progress = None, **changes: Any
) -> Store:
    """The same texts through the same architecture with random weights, captured into OUT/stores."""
    model = reopen(store, random=True, seed=seed)
    model.name = f"{store.name}, random weights"
    where = Path(out) / "stores" / folder_name(model.name)
    return recapture(store, model, where, progress=bar_of(progress, shortened(model.name)), **changes)


def shuffled_control(
    store: Store, out: str | Path, *, seed: int = 0, progress: Progress = None, **changes: Any
) -> Store:
    """The same words in random order through the same weights, captured into OUT/stores."""
    model = reopen(store)
    model.name = f"{store.name}, shuffled tokens"
    where = Path(out) / "stores" / folder_name(model.name)
    bar = bar_of(progress, shortened(model.name))
    return recapture(store, model, where, shuffle_tokens=seed, progress=bar, **changes)


def captured_controls(
    store: Store,
    work: Work,
    seed: int,
    *,
    random_weights: bool = False,
    shuffled_tokens: bool = False,
    **changes: Any,
) -> list[Store]:
    """The controls that were asked for, captured beside the study from the texts and the model of a store;
    `changes` are those of their captures. Raises: TransectError without a folder."""
    if (random_weights or shuffled_tokens) and work.out is None:
        raise TransectError("controls are captured into the study's folder.", "Give out=DIR.")
    options: dict[str, Any] = {"seed": seed, "progress": work.progress}
    controls = [random_control(store, work.out, **options, **changes)] if random_weights else []
    return controls + ([shuffled_control(store, work.out, **options, **changes)] if shuffled_tokens else [])


def model_of(store: Store) -> Model:
    """The model that a store was captured from; TransectError when it cannot be opened or has changed
    since."""
    model_or_refuse(store, "a loss, a gradient or a reading of its output")
    record = store.manifest["model"]
    source = record["fingerprint"].get("source") or {}
    model = open_model(
        record["spec"], dtype=store.manifest["dtype"]["compute"], seed=int(source.get("seed", 0))
    )
    if model.fingerprint["weights"] != record["fingerprint"]["weights"]:
        raise TransectError(
            f"{record['spec']} has other weights than {store.name} was captured from.", "Capture again."
        )
    return model


def over(result: Mapping[str, Any]) -> str:
    """How far a run came beyond its baseline, with its 95 % interval, by its result.json; "" unless told."""
    gap, error, count = (result.get(k) for k in ("over_baseline", "over_baseline_error", "n"))
    if gap is None or error is None or not count or count < 2:
        return ""
    half = student(int(count)) * error
    return f"{gap:.3g} [{gap - half:.3g}, {gap + half:.3g}]"
