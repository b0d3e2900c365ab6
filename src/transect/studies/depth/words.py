"""The depth study in words: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect.results.study import Figure, Study, describe_run
from transect.results.words import interval, share
from transect.store.store import Store

DONE = {"remove": "removal", "repeat": "repetition", "swap": "swap with the next"}
#: Half samples that must agree before a sentence calls a measure the best one.
AGREED = 0.5


def describe(study: Study, stores: Sequence[Store], how: Any) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    damage = study.tables["damage"]
    runs, controls = [s.name for s in stores], [s.name for s in stores[1:]]
    study.findings = [line for run in runs for line in _findings(study, run)]
    texts, tokens = (int(damage.column(k)[0]) for k in ("n_texts", "n"))
    study.warnings = [
        "A block that can be removed alone may not be removable with others: damage does not add up. "
        "What removal costs untrained is not what it costs after healing.",
        *(_without_reference() if not controls else []),
    ]
    study.methods = _methods(how)
    study.trace(stores, how)
    origin = f"{'; '.join(describe_run(s) for s in stores)}. {texts} texts, {tokens} judged tokens, "
    origin += f"seed {how.seed}."
    study.figures = _figures(study, runs, controls, origin)


def _without_reference() -> list[str]:
    return ["No reference: what training added shows beside the same with --random-weights."]


def _findings(study: Study, run: str) -> list[str]:
    worth = study.tables["worth"].where(run=run)
    sentences = [
        f"{run}: removing {row['value']:.0f} [{row['low']:.0f}, {row['high']:.0f}] of {row['n']} "
        "blocks, one at "
        f"a time, costs more than {row['share']:.0%} of the loss each (effective depth)."
        for row in worth.where(measure="effective_depth")
    ]
    for row in worth.where(measure="most_damage"):
        name = _named(row)
        least = next(iter(worth.where(measure="least_damage", edit=row["edit"], blocks=row["blocks"])))
        sentences.append(
            f"{run}: {name} damages most at {row['site']} (KL {row['value']:.3g} nats a token; "
            f"{share(row['support'])} of half samples agree) and least at {least['site']} "
            f"({least['value']:.3g}; {share(least['support'])})."
        )
    prediction = study.tables["prediction"].where(run=run, damage="kl_divergence")
    for row in prediction.where(best=True):
        sure = (row["support"] or 0) >= AGREED
        sentences.append(
            f"{run}: {_named(row)} is foretold best by {str(row['measure']).replace('_', ' ')}, Spearman "
            f"{interval(row, digits=3)} over {row['n']} places"
            + (f" ({share(row['support'])} of half samples agree)." if sure else
               f"; but only {share(row['support'])} of half samples agree.")
        )  # fmt: skip
    return sentences


def _named(row: Any) -> str:
    removed = row["edit"] == "remove" and row["blocks"] > 1
    return f"removal of {row['blocks']} blocks in a row" if removed else DONE[row["edit"]]


def _methods(how: Any) -> list[str]:
    return [
        f"The model runs whole and with each edit on the first {how.longest} tokens of the same texts: "
        "KL of the "
        "whole model's next-token law from the edited one's and rise of the loss in nats a token, share of "
        "tokens with the same top token (Lad et al. 2024, arXiv:2406.19384). An edited position keeps "
        "its mask "
        "and rotary tables. 95 % intervals leave out groups of texts (log, plain and logit scale).",
        "States around blocks on the same texts, position 0 and tokens above "
        f"{how.massive:g} median norms left out: angular distance (Gromov et al. 2024, arXiv:2403.17887; "
        "over all tokens, and at the last one as published), block influence (Men et al. 2024, "
        "arXiv:2403.03853), relative and absolute update, 1 − unbiased CKA over different texts.",
        "What foretells damage: Spearman's rank correlation over places, a description with the central "
        "95 % of "
        f"{how.halves} half samples of texts and no p, since blocks are no sample. Support: the share "
        "of half "
        "samples with the same answer.",
        f"Effective depth: blocks whose removal raises the loss by more than {how.share:.2%} of the whole "
        "model's.",
    ]


def _figures(study: Study, runs: list[str], controls: list[str], origin: str) -> list[Figure]:
    shown = {"runs": runs, "controls": controls, "xlabel": "block"}
    figures = [
        Figure(
            "damage",
            "depth",
            "damage",
            "What each block is worth",
            f"{origin} KL from the whole model where one block is edited, 95 % intervals by text; the whole "
            "model: 0.",
            shown
            | {"measures": ["kl_divergence"], "panels": "edit", "log": True, "where": {"blocks": [1, 2]}}
            | {"labels": {"kl_divergence": "KL (nats)"}},
        ),
        Figure(
            "apart",
            "apart",
            "distances",
            "Angular distance of layers n apart",
            f"{origin} Mean over tokens of the angle between the states of a token, ÷ π.",
            {"runs": runs},
        ),
    ]
    if len(study.tables["prediction"]):
        figures.append(
            Figure(
                "prediction",
                "foretold",
                "prediction",
                "What foretells damage",
                f"{origin} Spearman over places between a measure of the states around the blocks and "
                "the KL; "
                "bars: 95 % of half samples of texts. A description, no test.",
                {"runs": runs},
            )
        )
    return figures
