"""The lens study in words: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect.results.study import Figure, Study, describe_run
from transect.results.words import interval, share
from transect.store.store import Store

#: Share of tokens with the model's own top token from which a layer is said to agree.
AGREES = 0.5
#: Training tokens a dimension below which a map is said to be fitted on few.
ENOUGH = 4


def describe(study: Study, stores: Sequence[Store], how: Any) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    table, runs = study.tables["lens"], [s.name for s in stores]
    study.findings = [line for run in runs for line in _findings(study, run)] + _words(study)
    texts, tokens, fitted = (int(table.column(k)[0]) for k in ("n_texts", "n", "fitted_on"))
    width = stores[0].width(stores[0].sites[-1])
    study.warnings = []
    if fitted < ENOUGH * width:
        study.warnings.append(
            f"Maps of {width} dimensions are fitted on {fitted} tokens: they are pulled towards the "
            "logit lens. "
            f"Give texts of {ENOUGH * width} tokens or more beside those that judge."
        )
    if len(stores) == 1:
        study.warnings.append("No reference: read --random-weights and --shuffled-tokens beside it.")
    study.methods = _methods(how)
    study.trace(stores, how)
    origin = f"{'; '.join(describe_run(s) for s in stores)}. {texts} texts, {tokens} tokens, seed {how.seed}."
    study.figures = [_figure(name, runs, origin) for name in ("logit", "tuned")]
    if "directions" in study.tables:
        study.figures.append(_direction_figure(study, origin))


def _findings(study: Study, run: str) -> list[str]:
    sentences = []
    for lens in ("logit", "tuned"):
        part = study.tables["lens"].where(run=run, lens=lens)
        same = list(part.where(measure="top1_agreement"))
        first = next((r for r in same if r["value"] is not None and r["value"] >= AGREES), None)
        middle = part.where(measure="kl_divergence", site=same[len(same) // 2]["site"])
        kl = next(iter(middle))
        there = (
            f"agrees with the model's top token on half of the tokens from {first['site']} on "
            f"({interval(first, digits=2)}; a constant state {share(first['null'])})"
            if first
            else "never agrees with the model's top token on half of the tokens"
        )
        sentences.append(
            f"{run}, {lens} lens: {there}; at {kl['site']} it is {interval(kl, digits=3)} nats from the "
            "model's "
            f"output (a constant state: {kl['null']:.3g})."
        )
    return sentences


def _words(study: Study) -> list[str]:
    table = study.tables.get("directions")
    sentences = []
    for name in table.values("direction") if table else []:
        for sign in ("+", "−"):
            part = list(table.where(direction=name, sign=sign)) if table else []
            first = part[0]
            beyond = "beyond" if first["value"] > max(first["null_high"], first["pairs_high"]) else "within"
            words = ", ".join(repr(r["word"]) for r in part[:5])
            sentences.append(
                f"{name}, {sign}: {words}. Its top score {first['value']:.3g} is {beyond} those of random "
                f"directions (97.5 %: {first['null_high']:.3g}) and of differences of two states "
                f"({first['pairs_high']:.3g})."
            )
    return sentences


def _methods(how: Any) -> list[str]:
    return [
        "Logit lens (nostalgebraist 2020): states go through the model's own final norm and head, as if they "
        "left its last block; the model itself does it, so that caps and scales are its own. At the "
        "last site "
        "the other side is a real pass over the text.",
        f"Tuned lens: an affine map a site to the state behind the last block, least squares in "
        f"{how.folds} folds "
        "of texts, judged on texts it was not fitted on; ridge towards the logit lens, chosen on halves "
        "of the "
        "fitted texts (maps of Din et al. 2023, arXiv:2303.09435; Belrose et al. 2023, arXiv:2303.08112, "
        "descend on the KL instead and come closer to the output).",
        "KL of the model's law of the next token from the lens's and entropy in nats, share of tokens "
        "with the "
        "same top token, geometric mean rank of the true next token, its loss. Position 0 is left out. 95 % "
        "intervals leave out groups of texts. Null: the mean last state of the fitted texts, for all tokens.",
    ]


def _figure(lens: str, runs: list[str], origin: str) -> Figure:
    shown = {
        "kl_divergence": "KL from the output (nats)",
        "top1_agreement": "agreement with the top token (share)",
        "next_rank": "rank of the true next token",
        "entropy": "entropy (nats)",
    }
    return Figure(
        lens,
        "depth",
        "lens",
        f"What each layer says of the next token, {lens} lens",
        f"{origin} {lens.capitalize()} lens: KL from the model's output and entropy in nats, share of tokens "
        "with the model's top token, geometric mean rank of the true next token; 95 % by text. Dotted: a "
        "constant state.",
        {
            "measures": list(shown),
            "labels": shown,
            "logs": ["next_rank"],
            "runs": runs,
            "controls": runs[1:],
            "where": {"lens": lens},
        },
    )


def _direction_figure(study: Study, origin: str) -> Figure:
    names = study.tables["directions"].values("direction")
    return Figure(
        "directions",
        "direction",
        "directions",
        "Directions in words",
        f"{origin} Tokens that each direction pushes up (+) and down (−) most, in logits at the mean "
        "norm. Dashed: "
        "97.5 % of the top scores of random directions; dotted: of differences of two states.",
        {"directions": names[:3]},
    )
