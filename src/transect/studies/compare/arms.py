"""What is known of every run of a comparison: its recipe and scores, found through the model's path in the
manifest."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import read_json
from transect.store.store import Store
from transect.studies.runs import distinct, over

#: Losses this close, as a share of the smaller, count as matched.
MATCHED = 0.10


@dataclass(frozen=True)
class Arm:
    """One run: its role ("base", "run", "noise", "seed", "random") and what its recipe and scores say, where
    found."""

    name: str
    role: str
    method: str
    task: str = ""
    seed: int | None = None
    step: int | None = None
    loss: float = math.nan
    headline: str = ""
    score: float = math.nan
    baseline: float = math.nan
    learned: bool | None = None
    n_judged: int | None = None
    final: bool = True
    source: str = ""
    folder: str = ""
    judged_by: str = ""
    judged: float = math.nan
    over: str = ""

    @property
    def series(self) -> str:
        """What curves of this run are called: method, with its task where there is one."""
        return f"{self.method} {self.task}".strip() + ("" if self.final else f" step {self.step}")


def arm_of(store: Store, role: str) -> Arm:
    """The arm of a store."""
    if role in ("base", "noise", "random"):
        return Arm(
            store.name, role, {"base": "base", "noise": "numeric noise", "random": "random weights"}[role]
        )
    folder = Path(str(store.manifest["model"]["spec"]).rpartition("+")[2]).expanduser()
    home = next((f for f in (folder, folder.parent) if (f / "recipe.json").is_file()), None)
    if home is None:
        return Arm(store.name, role, store.name, source="no recipe beside the model")
    try:
        recipe = read_json(home / "recipe.json", "run")
        result = read_json(home / "result.json", "run") if (home / "result.json").is_file() else {}
        scores = read_json(folder / "scores.json", "run") if (folder / "scores.json").is_file() else {}
        usual = next((k for k in ("em", "accuracy") if k in scores), "loss")
        headline = str(result.get("headline") or {"em": "f1"}.get(usual, usual))
        final = folder == home
        return Arm(
            store.name,
            role,
            str(recipe["method"]),
            Path(str(recipe["task"]).split("@")[0]).stem,
            int(recipe["seed"]),
            scores.get("step"),
            float(scores.get("loss", math.nan)),
            headline,
            float(scores.get(headline, math.nan)),
            float(result.get("baseline", math.nan)),
            result.get("learned") if final else None,
            result.get("n"),
            final,
            "recipe beside the model",
            folder.name,
            str(result.get("judged_by", "")) if final else "",
            float(result.get("judged", math.nan)) if final else math.nan,
            over(result) if final else "",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TransectError(
            f"{home}: recipe or scores are damaged ({error}).", "Run transect finetune again."
        ) from error


def check_runs(base: Store, others: Sequence[Store]) -> None:
    """Refuse runs that do not hold the base's tokens, with the reason; names must differ."""
    distinct([base, *others])
    for store in others:
        mine, theirs = base.manifest, store.manifest
        if mine["texts"]["fingerprint"] != theirs["texts"]["fingerprint"]:
            raise TransectError(
                (
                    f"{store.path} holds {theirs['texts']['spec']}, {base.path} {mine['texts']['spec']}: "
                    "different texts."
                ),
                "Capture every run from the same texts.",
            )
        if not base.same_tokens(store):
            cut = [m.get("max_length") for m in (mine, theirs)]
            why = f"cut at {cut[0]} and {cut[1]}" if cut[0] != cut[1] else "their tokenizers differ"
            raise TransectError(
                f"{store.path} and {base.path} hold different token ids of the same texts: {why}.",
                (
                    "Capture both with one tokenizer and one --max-length, or compare them where they agree: "
                    "--align prefix."
                ),
            )
        for what in ("positions", "pool"):
            if mine[what] != theirs[what]:
                raise TransectError(
                    f"{store.path}: {what} {theirs[what]}, {base.path}: {mine[what]}.", "Capture alike."
                )


def matches(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Every LoRA run with the full run of its task and seed whose loss is nearest, and whether that is near
    enough."""
    runs = [a for a in arms if a.role == "run" and math.isfinite(a.loss)]
    pairs = []
    for lora in (a for a in runs if a.method == "lora"):
        rivals = [a for a in runs if a.method == "full" and a.task == lora.task]
        rivals = [a for a in rivals if a.seed == lora.seed] or rivals
        if rivals:
            full = min(rivals, key=lambda a: abs(a.loss - lora.loss))
            gap = abs(full.loss - lora.loss) / max(min(full.loss, lora.loss), 1e-12)
            row = {
                "run": lora.name,
                "run2": full.name,
                "task": lora.task,
                "loss": lora.loss,
                "loss2": full.loss,
            }
            pairs.append(
                row | {"gap": gap, "matched": gap <= MATCHED, "measure": "loss", "value": gap, "status": "ok"}
            )
    return pairs


def ends(arms: Sequence[Arm]) -> list[Arm]:
    """The end of every run: its result, or its last checkpoint where the result is not among the arms."""
    last: dict[tuple[Any, ...], Arm] = {}
    for arm in (a for a in arms if a.role == "run"):
        where = (arm.method, arm.task, arm.seed)
        held = last.get(where)
        if held is None or (arm.final, arm.step or 0) > (held.final, held.step or 0):
            last[where] = arm
    return list(last.values())


def siblings(arms: Sequence[Arm]) -> dict[str, str]:
    """Run → another run of the same recipe with another seed; a seed control without a recipe is the first
    run's."""
    bare: dict[str, Arm] = {}
    runs = [a for a in arms if a.role in ("run", "seed")]
    for arm in (a for a in runs if a.role == "run"):
        same = [
            b
            for b in runs
            if b is not arm and b.seed != arm.seed and b.seed is not None and arm.seed is not None
        ]
        same = [b for b in same if (b.method, b.task, b.final) == (arm.method, arm.task, arm.final)]
        same = [b for b in same if arm.final or b.step == arm.step]
        if same:
            bare[arm.name] = min(same, key=lambda b: (b.role != "seed", b.seed))
    unknown = [a for a in arms if a.role == "seed" and a.seed is None]
    first = next((a for a in arms if a.role == "run"), None)
    if unknown and first and first.name not in bare:
        bare[first.name] = unknown[0]
    return {name: b.name for name, b in bare.items()}


def rows_of(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The arms as rows of a table."""
    return [
        {"run": a.name, "measure": a.headline or None, "value": a.score, "n": a.n_judged, "status": "ok"}
        | {k: v for k, v in asdict(a).items() if k not in ("name", "n_judged")}
        | {"series": a.series}
        for a in arms
    ]


def judgement(arm: Arm) -> str:
    """What an arm reached beside its baseline, both of one metric, with the interval of the difference."""
    by = arm.judged_by or arm.headline
    best = "the start" if by == "loss" else "the best constant answer"
    gap = f", a difference of {arm.over}" if arm.over else ""
    sign = -1 if by == "loss" else 1  # judged scores are minus the loss
    reached = arm.score if arm.judged != arm.judged else sign * arm.judged
    return f"{by} {reached:.3g} against {sign * arm.baseline:.3g} for {best}{gap}"


def doubts(arms: Sequence[Arm], pairs: Sequence[dict[str, Any]], stores: Sequence[Store]) -> list[str]:
    """Plain warnings: arms that did not learn or are unknown, pairs that do not match, adapters on other
    weights."""
    sentences = []
    for a in arms:
        if a.role == "run" and a.learned is False:
            sentences.append(
                f"{a.name} is not shown to have learned: {judgement(a)} on {a.n_judged} examples. Its drift "
                "may not be that of fine-tuning."
            )
        if a.role == "run" and a.source.startswith("no"):
            sentences.append(
                f"{a.name}: {a.source}; whether it learned is not known, and it is matched with nothing."
            )
    for row in pairs:
        if not row["matched"]:
            sentences.append(
                f"{row['run']} and {row['run2']} are not matched on loss: {row['loss']:.3g} against "
                f"{row['loss2']:.3g} ({row['gap']:.0%} apart, limit {MATCHED:.0%}); a difference of their "
                "drifts may be one of training."
            )
    base = stores[0].manifest["model"]["fingerprint"]
    for store in stores[1:]:
        fingerprint = store.manifest["model"]["fingerprint"]
        if fingerprint.get("adapter") and fingerprint.get("weights") != base.get("weights"):
            sentences.append(f"{store.name}: its adapter sits on other weights than {stores[0].name}.")
    if len({(a.method, a.task, a.seed) for a in arms if a.role == "run"}) == len(
        {(a.method, a.task) for a in arms if a.role == "run"}
    ):
        sentences.append(
            "One training seed per arm: intervals resample texts and say nothing about other seeds."
        )
    return sentences
