"""What a study of power says: findings, warnings, methods, its figure."""

from typing import Any

import numpy as np

from transect.inference.tests import LEVEL
from transect.results.study import Figure, Study
from transect.studies.calibrate.planted import FEWEST, TESTS


def describe(study: Study, options: Any) -> None:
    """Fill in findings, warnings, methods and the figure from the tables."""
    power, texts = study.tables["power"], study.tables["texts"]
    needed = list(study.tables["needed"])
    study.findings = [_texts(r) for r in texts]
    for test in TESTS:
        for size in sorted({r["size"] for r in needed}):
            matching = [r for r in needed if r["test"] == test and r["size"] == size]
            study.findings += [_sentence(test, size, matching, options.power)] if matching else []
    alarms = [r for r in power if r["size"] == 0]
    for test in TESTS:
        matching = [r for r in alarms if r["test"] == test]
        share, draws = float(np.mean([r["value"] for r in matching])), sum(r["draws"] for r in matching)
        study.findings.append(
            f"Nothing planted, {test}: {share:.1%} of {draws:,} draws are found at a nominal {LEVEL:.0%}."
        )
    study.warnings = [
        "Draws of a store share its texts: rates of neighbouring numbers of texts are alike, and with all "
        "texts only the planting varies.",
        *(f"{r['run']}, {r['site']}: {r['n_texts']} texts; numbers beyond are not known from them."
          for r in texts if r["n_texts"] < 20),
    ]  # fmt: skip
    study.methods = [
        f"Texts of the store are drawn without replacement, {options.draws} times for every size and number "
        f"of texts from {FEWEST} on, the first tokens of each; massive tokens as in a sweep. Related views: "
        "the second is √(1 − s) of another text's points and √s of the same point's, s the size; unbiased "
        f"CKA over different texts, {options.permutations} permutations of whole texts. Different groups: "
        "half of the texts is moved by s times the root mean square distance of points from their mean, in "
        f"one random direction; distance of the means, {options.permutations} permutations of texts between "
        f"the groups. A test finds at p ≤ {LEVEL:g}. Intervals of shares: Clopper & Pearson, 95 %.",
        f"Needed is the fewest texts from which on {options.power:.0%} of the draws are found at every "
        "larger number tried. ICC: share of the variance that is the texts', over all dimensions (Donner & "
        "Koval 1980).",
    ]
    first = needed[0]
    sites = ", ".join(dict.fromkeys(r["site"] for r in power if r["run"] == first["run"]))
    study.figures = [
        Figure(
            "power",
            "power",
            "power",
            "Power against the number of texts",
            f"{first['run']}, {sites} (mean of the sites), {max(r['tokens_a_text'] for r in power)} tokens a "
            "text; a line for each planted size, dashed: nothing planted, dotted: "
            f"{LEVEL:.0%} and {options.power:.0%}. {options.draws} draws a point and site, "
            f"seed {options.seed}.",
            {"run": first["run"], "power": options.power},
        )
    ]


def _texts(row: dict[str, Any]) -> str:
    if row["value"] is None:
        texts = f"{row['run']}, {row['site']}: {row['n_texts']} texts of one token"
        return f"{texts}: nothing inside a text is alike."
    return (
        f"{row['run']}, {row['site']}: {row['n_texts']} texts of {row['tokens_median']} tokens (80 % of them "
        f"{row['tokens_low']} to {row['tokens_high']}), ICC {row['value']:.2f}: a variance by token would be "
        f"{row['design_effect']:.1f} times too small."
    )


def _sentence(test: str, size: float, rows: list[dict[str, Any]], power: float) -> str:
    """What an effect needs, over the sites: with one token a text, and with the most."""
    parts = []
    for k in sorted({r["tokens_a_text"] for r in rows}):
        matching = [r for r in rows if r["tokens_a_text"] == k]
        counts, most = (
            [int(r["value"]) if r["status"] == "ok" else None for r in matching],
            max(r["n_texts"] for r in matching),
        )
        reached = [c for c in counts if c is not None]
        many = f"{k} token{'s' * (k > 1)} a text"
        if not reached:
            parts.append(f"more than {most} texts with {many}")
        elif len(reached) == len(counts) and min(reached) == max(reached):
            parts.append(f"{min(reached)} texts with {many}")
        else:
            top = str(max(reached)) if len(reached) == len(counts) else f"more than {most}"
            parts.append(f"{min(reached)} to {top} texts with {many}, by site")
    return f"{test[0].upper()}{test[1:]}, size {size:g}: {power:.0%} power needs {'; '.join(parts)}."
