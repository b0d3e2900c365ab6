"""Runs of the token study: stores that are there, or models captured now; what each is an arm of, and how to open it again."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import read_json
from transect.models.models import Model, open_model
from transect.store.capture import capture, recapture
from transect.store.store import Store, open_store
from transect.texts.texts import Texts, open_texts

Given = Store | Model | str | Path
#: Fields of our decoder's configuration that a comparison may turn, and their names in words.
CHOICES = {
    "norm_placement": "placement",
    "norm": "norm",
    "mlp": "mlp",
    "positions": "positions",
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv heads",
    "vocab_size": "vocabulary",
}


@dataclass(frozen=True)
class Arm:
    """One run: "run" or "control" (random weights), the series whose seeds are averaged, and what distinguishes it."""

    name: str
    role: str
    series: str
    seed: int | None
    step: int | None
    choices: dict[str, str]
    learned: bool | None = None
    loss: float | None = None


def opened(
    given: Sequence[Given],
    texts: str | Path | Texts | None,
    out: str | Path | None,
    *,
    max_length: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Store]:
    """The stores of `given`: opened where they are stores, captured from `texts` into OUT/stores where they are models."""
    stores: list[Store] = []
    for one in given:
        if isinstance(one, Store):
            stores.append(one)
        elif not isinstance(one, Model) and (Path(one) / "manifest.json").is_file():
            stores.append(open_store(one))
        elif texts is None or out is None:
            raise TransectError(f"{one} is a model; it has to be captured on texts.", "Give --texts FILE (and out).")
        else:
            model = open_model(one)
            model.name = _name(model.name, one, [s.name for s in stores])
            limit = max_length or _limit(model)
            bar = (lambda d, t, n=model.name: progress(f"capture {n}"[:40], d, t)) if progress else None
            where = Path(out) / "stores" / re.sub(r"[^\w.-]+", "_", model.name)
            stores.append(capture(model, open_texts(texts, seed=seed), where, max_length=limit, progress=bar))
    names = [s.name for s in stores]
    if len(set(names)) < len(names):
        raise TransectError(f"runs share a name: {', '.join(names)}.", "Capture with --name to tell them apart.")
    return stores


def _name(name: str, given: Any, taken: Sequence[str]) -> str:
    """A folder's name, with its parent's in front where it is a checkpoint or the name is taken."""
    path = Path(str(given))
    if path.is_dir() and (name in taken or path.name.startswith("checkpoint-")):
        return f"{path.resolve().parent.name}/{path.name}"
    return name


def _limit(model: Model) -> int | None:
    """Where to cut texts: the tokenizer's limit or the model's number of positions, whichever is less."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    limit = min(limit, model.tokenizer.model_max_length, 1024)
    return int(limit)


def random_controls(
    stores: Sequence[Store], arms: Sequence[Arm], out: str | Path, *, seed: int = 0, progress: Any = None
) -> list[Store]:
    """The same texts through random weights, once for each series (our own start there, as its recipe's seed drew it)."""
    made: list[Store] = []
    done: set[str] = set()
    for store, arm in zip(stores, arms, strict=True):
        spec = str(store.manifest["model"]["spec"])
        if arm.series in done or spec.startswith("random:"):
            continue
        done.add(arm.series)
        model = open_model(f"random:{spec}", seed=seed if arm.seed is None else arm.seed)
        model.name = f"{store.name}, random weights"
        where = Path(out) / "stores" / re.sub(r"[^\w.-]+", "_", model.name)
        bar = (lambda d, t: progress("random weights", d, t)) if progress else None
        made.append(recapture(store, model, where, sites=["resid"], progress=bar))
    return made


def model_of(store: Store) -> Model:
    """The model that a store was captured from; TransectError when it cannot be opened or has changed since."""
    told = store.manifest["model"]
    source = told["fingerprint"].get("source") or {}
    model = open_model(told["spec"], dtype=store.manifest["dtype"]["compute"], seed=int(source.get("seed", 0)))
    if model.fingerprint["weights"] != told["fingerprint"]["weights"]:
        raise TransectError(f"{told['spec']} has other weights than {store.name} was captured from.", "Capture again.")
    return model


def arms_of(stores: Sequence[Store], controls: Sequence[Store]) -> list[Arm]:
    """The arm of every store. A series is named by the choices in which the runs differ, else by the run."""
    arms = [_arm(s, "run") for s in stores] + [_arm(s, "control") for s in controls]
    runs = [a for a in arms if a.role == "run"]
    varied = [c for c in CHOICES.values() if len({a.choices.get(c) for a in runs}) > 1]
    named = []
    for arm in arms:
        words = " ".join(arm.choices[c] for c in varied if c in arm.choices)
        plain = arm.name.removesuffix(", random weights") if arm.role == "control" else arm.name
        named.append(replace(arm, series=words if words and arm.choices else plain))
    if len({(a.series, a.seed) for a in named if a.role == "run"}) < len(runs):
        same = [replace(a, series=f"{a.series} step {a.step}" if a.step is not None else a.name) for a in named]
        named = [s if a.role == "run" else a for a, s in zip(named, same, strict=True)]
    if len({(a.series, a.seed) for a in named if a.role == "run"}) < len(runs):
        named = [replace(a, series=a.name) if a.role == "run" else a for a in named]
    return named


def _said(word: str, value: Any) -> str:
    """A choice in words: names speak for themselves, numbers say of what."""
    return value if isinstance(value, str) else f"{word} {value}"


def _arm(store: Store, role: str) -> Arm:
    told = store.manifest["model"]
    folder = Path(str(told["spec"]).removeprefix("random:")).expanduser()
    seed, step, choices = (told["fingerprint"].get("source") or {}).get("seed"), None, {}
    learned, loss = None, None
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json", "model")
        if config.get("model_type") == "transect":
            choices = {word: _said(word, config[name]) for name, word in CHOICES.items()}
            home = next((f for f in (folder, folder.parent) if (f / "recipe.json").is_file()), None)
            if home and seed is None:
                seed = read_json(home / "recipe.json", "run").get("seed")
        if (folder / "scores.json").is_file():
            scores = read_json(folder / "scores.json", "run")
            step, loss = scores.get("step"), scores.get("loss")
        if (folder / "result.json").is_file() and role == "run":
            learned = read_json(folder / "result.json", "run").get("learned")
    return Arm(store.name, role, "", seed, step, choices, learned, loss if role == "run" else None)
