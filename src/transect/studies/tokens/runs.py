"""Arms of the token study: what each run is an arm of, by the choices in which runs differ; and their random
controls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transect.files import read_json
from transect.store.store import Store
from transect.studies.runs import random_control
from transect.work.options import Work

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
    """One run: "run" or "control" (random weights), the series whose seeds are averaged, and what
    distinguishes it."""

    name: str
    role: str
    series: str
    seed: int | None
    step: int | None
    choices: dict[str, str]
    learned: bool | None = None
    loss: float | None = None


def random_controls(stores: Sequence[Store], arms: Sequence[Arm], work: Work, seed: int) -> list[Store]:
    """The same texts through random weights, once for each series (our own start there, as its recipe's seed
    drew it)."""
    made: list[Store] = []
    done: set[str] = set()
    for store, arm in zip(stores, arms, strict=True):
        if arm.series in done or str(store.manifest["model"]["spec"]).startswith("random:"):
            continue
        done.add(arm.series)
        own = seed if arm.seed is None else arm.seed
        made.append(random_control(store, work.out, seed=own, progress=work.progress, sites=["resid"]))
    return made


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
        same = [
            replace(a, series=f"{a.series} step {a.step}" if a.step is not None else a.name) for a in named
        ]
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
