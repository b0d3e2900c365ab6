"""The token study in words and figures: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.intervals import agreement, jackknife
from transect.models import sites
from transect.results.study import Study, describe_run
from transect.results.table import Table
from transect.results.words import flagged, share
from transect.store.store import Store
from transect.studies.tokens.names import CURVES, HEADLINES, NORMED
from transect.studies.tokens.pictures import pictures
from transect.studies.tokens.runs import Arm


def describe(
    study: Study, stores: Sequence[Store], arms: Sequence[Arm], options: dict[str, Any], notes: list[str]
) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    origin = origin_of(study, stores, options)
    named = ("sites", "tokens", "position0", "massive", "window", "groups", "seed")
    study.trace(stores, {k: options[k] for k in named})
    study.findings = _findings(study)
    study.warnings = [*notes, *_warnings(study, stores, arms)]
    study.methods = METHODS
    study.figures = pictures(study, arms, origin)


def origin_of(study: Study, stores: Sequence[Store], options: dict[str, Any]) -> str:
    """The tail of every caption: runs, texts, counts, what was left out."""
    first, within = stores[0], study.tables["within"].where(status="ok")
    shown = (
        describe_run(first)
        if len(stores) == 1
        else f"{len(stores)} runs on {first.manifest['texts']['spec']}"
    )
    n = int(study.tables["layers"].column("n")[0])
    window = int(within.column("n")[0]) if len(within) else 0
    texts = int(within.column("n_texts")[0]) if len(within) else 0
    where = "kept" if options["position0"] else "dropped"
    sentence = (
        f"{shown}; pooled: {n} tokens; within texts: {texts} texts × {window} tokens. Position 0 {where}"
    )
    if options["massive"]:
        sentence += f", tokens above {options['massive']:g} median norms dropped from pooled measures"
    return f"{sentence}; the final norm is no layer."


METHODS = [
    "Pooled measures see tokens of all texts as one cloud; their null shuffles every column by itself (of "
    "two sites: the"
    " pairing). Measures within a text see the first tokens of each text, as many of every text, and "
    "average over texts;"
    " their null takes the token at each position from other texts. Intervals: 95 % by leaving out "
    "groups "
    "of texts.",
    "Rank collapse: the residual ‖X − 1x̄ᵀ‖/‖X‖ of the states of a text (Dong et al. 2021), Frobenius "
    "norm, going to 0, with"
    " the mean cosine going to 1 (Noci et al. 2022). Representation collapse: the update beside the state "
    "going to 0 with"
    " depth (Xie et al. 2023). Clusters: components of the graph that joins tokens with a cosine of at "
    "least 0.9"
    " (Geshkovski et al. 2023). These are statements about curves, not about whether a model is good.",
    "Gradient of a token's own loss −log p(next token) by its own state: in a causal model it does not "
    "depend on what"
    " follows, hence not on the length of a text. Null: the loss of a next token taken from another "
    "place. × state norm: the"
    " effect of a relative change of the state, comparable between layers of different norm.",
    "Turning angle: between the update into a layer and the one out of it (null: updates of other tokens; "
    "90° for steps at"
    " random in many dimensions). Path length / distance covered: from the first layer on (null: steps of "
    "the same lengths"
    " at right angles). Random weights: the same architecture with initial weights, the same texts.",
    "Curse of depth (Sun et al. 2025): the mean square of the state at each depth, and the loss with "
    "one block left out minus the loss, nats a token, on the texts of the gradients. A block whose "
    "interval reaches 0 changes nothing that can be told.",
    "Seeds: the unit of a claim about training is the seed. With three seeds or more an interval "
    "holds both the spread of seeds (t) and the texts' (jackknife); with two there is none, and both "
    "values are shown; with one it is of the texts alone.",
    "Differences: B − A of runs that differ in the named choice alone (and in choices of the recipe "
    "that follow it, which are named), at equal seeds; pairs of one seed are averaged before seeds "
    "are compared. Layers are called apart from 0 by a band that holds the whole curve at once, with "
    "the share of resamples whose largest difference stands at the same layer. Stacks of different "
    "depth are compared at equal shares of their depth, between layers by a straight line. Loss gaps "
    "are paired by the same documents.",
]


def _findings(study: Study) -> list[str]:
    """For every series, however many there are: where its curves go; then contrasts, in loss and geometry."""
    sentences: list[str] = []
    table = study.tables["curves"]
    for name in table.where(role="run").values("series"):
        trained = table.where(series=name, role="run")
        for curve in ("cosine in text", "rank residual"):
            rows = _ordered(trained.where(curve=curve))
            if len(rows) < 2:
                continue
            last, first = rows[-1], rows[0]
            line = f"{name}: {_plain(curve)} goes from {_at(first)} at {first['site']} to {_at(last)} at"
            line += f" {last['site']}"
            line += f" (tokens of other texts {last['null']:.3g}"
            random = _ordered(table.where(curve=curve, series=name, role="control"))
            line += f", random weights {_at(random[-1])})" if random else ")"
            sentences.append(line + (f", {last['runs']} seeds." if last["runs"] > 1 else "."))
        sentences += _curse(name, trained, table.where(series=name, role="control"))
    return sentences + _apart_in_loss(study) + _contrasted(study)


def _curse(name: str, curve: Table, control: Table) -> list[str]:
    """Growth of the state through depth beside that of random weights, and the block that the loss would miss
    least, with the share of resamples that pick it too."""
    grown, blocks = (_ordered(curve.where(curve=c)) for c in ("variance", "block skipped"))
    if len(grown) < 3 or not blocks:
        return []
    first, last = grown[1], grown[-1]
    least = min(blocks, key=lambda r: r["value"])
    known = [r for r in blocks if r["low"] is not None]
    idle = [r for r in known if r["low"] <= 0]
    line = f"{name}, curse of depth: the variance of the state changes {_growth(first, last)} times"
    line += f" from {first['site']} to {last['site']}"
    random = _ordered(control.where(curve="variance"))
    line += f" (random weights {_growth(random[1], random[-1])})" if len(random) > 2 else ""
    line += f"; of {len(blocks)} blocks, leaving out the one that makes"
    line += f" {least['site']} costs least, {_at(least)} nats a token"
    replicates = [r["replicates"] for r in blocks]
    if all(replicates) and len({len(a) for a in replicates}) == 1:
        picks = np.argmin(np.array(replicates, float), axis=0).tolist()
        line += f" ({share(agreement(picks, blocks.index(least)))} of resamples pick the same)"
    return [line + (f"; {len(idle)} cost nothing that can be told from 0." if known else ".")]


def _growth(first: dict[str, Any], last: dict[str, Any]) -> str:
    """Ratio of two points of a curve, with its interval where both have resamples."""
    ends, value = [r["replicates"] or [] for r in (first, last)], last["value"] / first["value"]
    if len(ends[0]) != len(ends[1]) or len(ends[0]) < 2:
        return f"{value:.3g}"
    low, high = jackknife(value, np.array(ends[1], float) / np.array(ends[0], float), scale="log")
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _apart_in_loss(study: Study) -> list[str]:
    sentences = []
    for r in study.tables["losses"].where(status="ok") if "losses" in study.tables else ():
        sentences.append(
            f"{r['contrast']}, loss on {r['part']}: {r['value']:+.3g}{_ends(r)} {r['unit']} "
            f"({_units(r)}; paired by the same documents)."
        )
    return sentences


def _ends(row: dict[str, Any]) -> str:
    """The interval; of two seeds their values."""
    if row["low"] is not None:
        return f" [{row['low']:.3g}, {row['high']:.3g}]"
    return (
        f" (seeds {row['seed_low']:.3g} and {row['seed_high']:.3g})"
        if row.get("seed_low") is not None
        else ""
    )


def _units(row: dict[str, Any]) -> str:
    words = f"{row['pairs']} matched pair{'s' * (row['pairs'] > 1)}"
    by = {
        "texts": "one seed, interval over texts",
        "seeds and texts": f"interval over {row['seeds']} seeds and texts",
    }
    return f"{words}, {by.get(row['basis'], 'two seeds: nothing is tested')}"


def _contrasted(study: Study) -> list[str]:
    """For each contrast and headline curve, the layer where the whole curve's band is farthest from 0."""
    sentences = []
    if "differences" not in study.tables:
        return sentences
    table = study.tables["differences"]
    for contrast in table.values("contrast"):
        for curve in HEADLINES:
            rows = list(table.where(contrast=contrast, curve=curve))
            if not rows:
                continue
            banded = [r for r in rows if r["band_low"] is not None]
            sure = [r for r in banded if r["band_low"] > 0 or r["band_high"] < 0]
            top = max(sure or rows, key=lambda r: abs(r["value"]))
            words = "largest at"
            if banded:
                words = "no layer apart from 0; largest at"
            if sure:
                words = f"{len(sure)} of {len(rows)} layers apart from 0, most at"
            ends = f" [{top['band_low']:.3g}, {top['band_high']:.3g}]" if banded else _ends(top)
            agree = (
                f", the largest in {top['agreement']:.0%} of resamples"
                if top["agreement"] is not None
                else ""
            )
            sentences.append(
                f"{contrast}, {_plain(curve)}: {words} {top['site']}: {top['value']:+.3g}{ends}"
                f" ({_units(top)}{agree})."
            )
    return sentences


def _starts(study: Study) -> list[str]:
    """Whether the controls do alike: update / state of random weights, from the second block on."""
    rows = study.tables["curves"].where(curve="relative update", role="control")
    sizes: dict[str, list[float]] = {}
    for r in rows:
        if r["layer"]:
            sizes.setdefault(r["series"], []).append(r["value"])
    typical = {s: sum(v) / len(v) for s, v in sizes.items()}
    if len(typical) < 2 or max(typical.values()) < 1.5 * min(typical.values()):
        return []
    low, high = (pick(typical, key=lambda s: typical[s]) for pick in (min, max))
    return [
        f"With random weights a block moves the stream by {typical[low]:.2g} of it ({low}) to "
        f"{typical[high]:.2g} ({high}): the arms' controls do not start alike in function. "
        "Train with --init function to start them alike."
    ]


def _judged(arm: Arm) -> str:
    if arm.over is None:
        return arm.name
    return f"{arm.name} ({arm.over[0]:+.3g} [{arm.over[1]:.3g}, {arm.over[2]:.3g}] nats a token)"


def _plain(curve: str) -> str:
    return CURVES[curve].label.partition("\n(")[0].replace("\n", " ")


def _ordered(table: Table) -> list[dict[str, Any]]:
    return sorted(table, key=lambda r: sites.order(r["site"]))


def _at(row: dict[str, Any]) -> str:
    several = row["runs"] > 1 or row["low"] is not None
    return f"{row['value']:.3g}{_ends(row) if several else ''}"


def _warnings(study: Study, stores: Sequence[Store], arms: Sequence[Arm]) -> list[str]:
    sentences: list[str] = []
    runs = [a for a in arms if a.role == "run"]
    if not any(a.role == "control" for a in arms):
        sentences.append(
            "No run with random weights: what training added cannot be told from what the architecture does."
        )
    counts = {s: sum(a.series == s for a in runs) for s in dict.fromkeys(a.series for a in runs)}
    if len(runs) > 1 and max(counts.values()) == 1:
        sentences.append(
            "One run for each series: differences between series may be differences between seeds."
        )
    if 2 in counts.values():
        sentences.append(
            "Two seeds of a series: both values are shown, and nothing is tested. Three seeds can be."
        )
    if failed := [_judged(a) for a in runs if a.learned is False]:
        sentences.append(
            f"Not shown to have learned (not above the unigram model by the interval): {', '.join(failed)}. "
            "What they show may be the geometry of a run that failed with this recipe, not of the "
            "architecture."
        )
    gaps = list(study.tables["losses"].where(status="ok")) if "losses" in study.tables else []
    if apart := [r for r in gaps if r["low"] is not None and (r["low"] > 0 or r["high"] < 0)]:
        sentences.append(
            f"Arms differ in loss by more than their interval ({', '.join(r['contrast'] for r in apart)}): a "
            "difference between them may be one of how far they have learned."
        )
    if "losses" in study.tables:
        for reason in dict.fromkeys(r["status"] for r in study.tables["losses"] if r["status"] != "ok"):
            sentences.append(f"Losses of arms are not compared: {reason}.")
    sentences += _starts(study)
    if any(a.choices.get("placement") in NORMED for a in runs):
        sentences.append(
            "Where a block ends in a norm (post, deepnorm, mix), resid is the normed state: its norm is "
            "set by the norm's "
            "weight, and an update includes the norming. Compare cosines and ranks between placements, "
            "not norms."
        )
    if len({s.manifest["tokens_hash"] for s in stores}) > 1:
        sentences.append(
            "The runs have different tokens (tokenizers, or lengths): they are compared as clouds, not by "
            "token."
        )
    sentences += flagged(study.tables, skip=("arms", "curves", "differences", "losses", "similarity"))
    return sentences
