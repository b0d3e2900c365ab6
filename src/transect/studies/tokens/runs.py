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
    "max_position_embeddings": "block",
    "mix_fraction": "mix",
    "norm_bias": "norm bias",
    "bias": "bias",
    "tie_word_embeddings": "tied",
    "initializer_range": "initial scale",
    "embedding_std": "embedding scale",
    "init": "start",
    "skip": "skips",
    "norm_scaling": "scaled norms",
}
#: Fields of a run's recipe that the configuration does not hold: runs that differ in one are no seeds of each
#: other.
RECIPE = {
    "texts": "texts",
    "tokenizer": "tokenizer",
    "steps": "steps",
    "batch": "batch",
    "accumulate": "accumulate",
    "learning_rate": "learning rate",
    "floor": "floor",
    "warmup": "warmup",
    "betas": "betas",
    "weight_decay": "weight decay",
    "clip": "clip",
    "precision": "precision",
}


@dataclass(frozen=True)
class Arm:
    """One run: "run" or "control" (random weights), the series whose seeds are averaged, and what
    distinguishes it.

    over: nats a token over the unigram model, with the ends of its interval. judged: what result.json holds
    of the part that the run was judged by.
    """

    name: str
    role: str
    series: str
    seed: int | None
    step: int | None
    choices: dict[str, str]
    learned: bool | None = None
    loss: float | None = None
    over: tuple[float, float, float] | None = None
    judged: dict[str, Any] | None = None


def random_controls(stores: Sequence[Store], arms: Sequence[Arm], work: Work, seed: int) -> list[Store]:
    """The same texts through random weights, once for each series (our own start there, as its recipe's seed
    drew it)."""
    controls: list[Store] = []
    done: set[str] = set()
    for store, arm in zip(stores, arms, strict=True):
        if arm.series in done or str(store.manifest["model"]["spec"]).startswith("random:"):
            continue
        done.add(arm.series)
        arm_seed = seed if arm.seed is None else arm.seed
        controls.append(
            random_control(store, work.out, seed=arm_seed, progress=work.progress, sites=["resid"])
        )
    return controls


def arms_of(stores: Sequence[Store], controls: Sequence[Store]) -> list[Arm]:
    """The arm of every store. A series is named by the choices in which the runs differ, else by the run."""
    arms = [_arm(s, "run") for s in stores] + [_arm(s, "control") for s in controls]
    runs = [a for a in arms if a.role == "run"]
    varied = [c for c in varied_choices(runs) if not leader(runs, c)]
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


def varied_choices(runs: Sequence[Arm]) -> list[str]:
    """The choices in which runs differ: of the architecture, then of the recipe."""
    names = [*CHOICES.values(), *RECIPE.values()]
    return [c for c in names if len({a.choices.get(c) for a in runs}) > 1]


def leader(runs: Sequence[Arm], choice: str) -> str:
    """The architecture's choice that a choice of the recipe follows, as a rate follows a placement; or ""."""
    if choice not in RECIPE.values():
        return ""
    for other in (c for c in varied_choices(runs) if c in CHOICES.values()):
        if len({(a.choices.get(other), a.choices.get(choice)) for a in runs}) == len(
            {a.choices.get(other) for a in runs}
        ):
            return other
    return ""


def _said(word: str, value: Any) -> str:
    """A choice in words: names speak for themselves, numbers say of what."""
    if isinstance(value, bool):
        return word if value else f"no {word}"
    return Path(value).name if isinstance(value, str) else f"{word} {value}"


def _arm(store: Store, role: str) -> Arm:
    record = store.manifest["model"]
    folder = Path(str(record["spec"]).removeprefix("random:")).expanduser()
    source = record["fingerprint"].get("source") or {}
    seed, step, choices = source.get("seed"), source.get("step"), {}
    scores, result = (_read(folder / f"{name}.json") for name in ("scores", "result"))
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json", "model")
        if config.get("model_type") == "transect":
            choices = {word: _said(word, config[name]) for name, word in CHOICES.items() if name in config}
            home = next((f for f in (folder, folder.parent) if (f / "recipe.json").is_file()), None)
            recipe = _read(home / "recipe.json") if home else {}
            choices |= {word: _said(word, recipe[name]) for name, word in RECIPE.items() if name in recipe}
            seed = recipe.get("seed") if seed is None else seed
            end = _read(home / "result.json") if home else {}
            result = result or (end if scores and end.get("step") == scores.get("step") else {})
    step, loss = scores.get("step", step), scores.get("loss")
    if role != "run":
        return Arm(store.name, role, "", seed, step, choices)
    over = _over(result) or _over(scores)
    learned = over[1] > 0 if over else False if result.get("learned") is False else None
    part = result.get(result.get("judged", "test"))
    judged = None
    if isinstance(part, dict):
        judged = part | {k: result.get(k) for k in ("data_fingerprint", "task", "judged")}
    return Arm(store.name, role, "", seed, step, choices, learned, loss, over, judged)


def _read(file: Path) -> dict[str, Any]:
    return read_json(file, "run") if file.is_file() else {}


def _over(record: dict[str, Any]) -> tuple[float, float, float] | None:
    """Nats over the unigram model with an interval; None where a run was judged without one."""
    values = [record.get(f"over_baseline{end}") for end in ("", "_low", "_high")]
    if not all(isinstance(v, float) for v in values):
        return None
    return tuple(values)  # type: ignore[return-value]
