"""The dimension study in words: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect.results.study import Figure, Study, describe_run
from transect.results.words import flagged, interval, other_texts, share
from transect.store.store import Store
from transect.studies.dimension.cells import MEASURES
from transect.studies.dimension.tables import PEAKED, Measured

NAMES = {"twonn": "TwoNN dimension", "participation_ratio": "participation ratio", "curvature": "curvature"}
#: Half samples that must agree before a sentence takes a layer for settled.
AGREED = 0.5


def describe(
    study: Study, runs: Sequence[Store], controls: Sequence[Store], measured: Sequence[Measured], how: Any
) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    every, beside = [*runs, *controls], [s.name for s in controls]
    study.findings = [line for one in measured for line in _phases(study, one.run)]
    if "loss" in study.tables:
        study.findings += [line for one in measured for line in _losses(study, one)]
    study.warnings = [*other_texts(runs), *flagged(study.tables)]
    if not controls:
        study.warnings.append("No control: what training added shows beside the same with --random-weights.")
    for one in measured:
        if one.window.short or one.window.massive:
            study.warnings.append(
                f"{one.run}: {one.window.short} texts are shorter than {len(one.window.tokens[0])} tokens "
                f"and left out; {one.window.massive} massive tokens are passed over."
            )
    study.methods = _methods(how, measured[0])
    study.trace(every, how)
    size, count = len(measured[0].window.tokens[0]), len(measured[0].window.texts)
    origin = f"{'; '.join(describe_run(s) for s in every)}. {count} texts, seed {how.seed}."
    study.figures = _figures(study, [s.name for s in every], beside, origin, size, measured[0].each)


def _phases(study: Study, run: str) -> list[str]:
    lines = []
    for measure in PEAKED:
        part = study.tables["phases"].where(run=run, of=measure)
        at = {row["measure"]: row for row in part}
        top, rise, over = (at.get(k) for k in ("peak", "onset", "peak_over_last"))
        if not top or not rise:
            continue
        sure = "" if (top["support"] or 0) >= AGREED else ": it is not settled"
        lines.append(
            f"{run}: the {NAMES[measure]} is largest at {top['site']} ({top['dimension']:.3g}; layers "
            f"{top['low']:.0f} to {top['high']:.0f} in half samples of texts, {share(top['support'])} agree"
            f"{sure}); it has risen halfway by {rise['site']} ({rise['low']:.0f} to {rise['high']:.0f}, "
            f"{share(rise['support'])} agree)"
            + (
                f"; log ratio of the largest inside to the last layer {interval(over, digits=3)}."
                if over
                else "."
            )
        )
    return lines


def _losses(study: Study, one: Measured) -> list[str]:
    lines = []
    for measure in MEASURES:
        rows = list(study.tables["loss"].where(run=one.run, measure=measure, status="ok"))
        known = [r for r in rows if r["value"] is not None]
        if not known:
            continue
        best = max(known, key=lambda r: abs(r["value"]))
        beyond = sum((r["p_max"] if r["p_max"] is not None else 1) <= 0.05 for r in known)
        whose = "" if one.judge == one.run else f" of {one.judge}"
        p = "" if best["p_max"] is None else f", max-T p {best['p_max']:.2g} over {len(known)} layers"
        lines.append(
            f"{one.run}: {NAMES[measure]} of a text's tokens goes with its loss{whose} most at "
            f"{best['site']}: Spearman {interval(best, digits=2)}{p}; {beyond} of {len(known)} layers are "
            "beyond permuted texts."
        )
    return lines


def _methods(how: Any, one: Measured) -> list[str]:
    size = len(one.window.tokens[0])
    return [
        f"Every text gives its first {size} tokens after position 0, tokens above {how.massive:g} median "
        "norms at any layer passed over in a run and its controls alike: dimensions at different numbers of "
        "points do not compare.",
        f"Curves: {one.each} tokens of each text together. TwoNN (Facco et al. 2017) through neighbours of "
        "other texts, a reading at n; participation ratio by products of tokens of different texts, of the "
        "population; curvature, the mean angle between successive steps of a text's states (Hosseini & "
        "Fedorenko 2023, arXiv:2311.04930), a mean over texts. 95 % by groups of texts left out.",
        "Peak: the layer of the largest dimension (Cheng et al. 2024, arXiv:2405.15471). What enters "
        "block 0 is left out. Onset: the first "
        "at or above the middle between the first layer's dimension and the peak's. Intervals and support: "
        f"{how.halves} half samples of texts. Log ratio to the last layer: the layer is chosen on one half "
        "and read on the other, mean and central 95 % of the half samples.",
        "Loss: nats a token over the same first tokens, by the run's own model; of a control, by the run "
        "that it is a control of. Spearman's ρ over texts (Viswanathan et al. 2025, arXiv:2501.10573) of the "
        "dimension and curvature of each text alone, plug-in at equal n; band for the whole curve; null: "
        f"losses permuted between texts {how.permutations} times, the same way at every layer; max-T.",
    ]


def _figures(
    study: Study, names: list[str], controls: list[str], origin: str, size: int, each: int
) -> list[Figure]:
    shown: dict[str, Any] = {"measures": list(MEASURES), "labels": MEASURES, "runs": names}
    shown |= {"controls": controls}
    logs = {"logs": list(PEAKED)}
    figures = [
        Figure(
            "dimension",
            "depth",
            "dimension",
            "Dimension by layer",
            f"{origin} {each} tokens of each text together (curvature: {size}); 95 % by groups of texts.",
            shown | logs,
        )
    ]
    if "loss" in study.tables and len(study.tables["loss"].where(status="ok")):
        words = {m: f"ρ with loss: {NAMES[m]}" for m in MEASURES}
        figures.append(
            Figure(
                "loss",
                "depth",
                "loss",
                "Dimension of a text and its loss",
                f"{origin} Spearman over texts at {size} tokens each, 95 % by groups of texts; dotted with "
                "its band: losses permuted between texts, layer by layer.",
                shown | {"labels": words},
            )
        )
    return figures
