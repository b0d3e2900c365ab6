"""The words of tables and figures: each with one sentence, its formula and where it comes from. The app, the
report and the page of terms read them here."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Term:
    """One word: what it means, how it is computed, and where that is from or decided."""

    name: str
    meaning: str
    formula: str
    source: str


TERMS = (
    Term(
        "null",
        "What the measure reads where nothing differs: two halves of the texts of one layer, or texts "
        "permuted whole.",
        "mean of m(half 1, half 2), or of m(X, X of permuted texts), over draws of whole texts",
        "inference/evaluate.py",
    ),
    Term(
        "excess",
        "How far a distance lies above its null: what two layers differ by beyond two draws of one.",
        "value − null; of a score s with its null s₀: (s − s₀) / (1 − s₀)",
        "inference/rows.py",
    ),
    Term(
        "design",
        "Which points are compared: the same tokens at both layers (paired), or tokens of different texts "
        "(disjoint).",
        "paired: row i with row i; disjoint: one half of the texts with the other",
        "inference/draws.py",
    ),
    Term(
        "interval",
        "95 % for the population of texts: what other texts of this kind would give.",
        "delete-group jackknife over groups of whole texts, t with G − 1 degrees of freedom, on the scale "
        "where the measure lives (log, Fisher z, logit)",
        "Efron & Stein 1981, doi:10.1214/aos/1176345462",
    ),
    Term(
        "reference",
        "A number drawn beside another for orientation, and no test: columns permuted, random weights.",
        "the same measure on the control's points",
        "inference/controls.py",
    ),
    Term(
        "control",
        "A run in which the effect cannot be: weights at random, tokens shuffled. Drawn dashed.",
        "the same capture and the same measure",
        "inference/controls.py",
    ),
    Term(
        "jump",
        "A step through depth out of line with its neighbours. Drawn as a dotted line.",
        "|asinh(step / s) − local straight fit without it|, largest over steps, by the scatter of the rest",
        "numeric/change_points.py; false alarms and power: docs/power.md",
    ),
    Term(
        "block",
        "Layers that lie closer to each other than to the rest. Its borders are frames in the matrix.",
        "rise of the all-pairs excess across a border, beyond its local fit, on the signed-log scale",
        "numeric/change_points.py",
    ),
    Term(
        "support",
        "How often half of the texts find the same: a jump, a border, the largest step.",
        "share of half-samples of whole texts that pick the same layer",
        "studies/drift/changes.py",
    ),
    Term(
        "stress",
        "What a map gets wrong: distances on it against those it was made from. 0 is perfect.",
        "√(Σ(d − s·d̂)² / Σd²) with the best scale s",
        "Kruskal 1964, doi:10.1007/BF02289565",
    ),
    Term(
        "calibration",
        "How often such intervals held the truth where it is known. One outside of 92–98 % is marked.",
        "share of planted draws whose interval covers the value of the population",
        "docs/calibration.md, by make calibrate",
    ),
    Term(
        "added",
        "What training added: the score of the trained run beyond that of random weights.",
        "corrected(trained) − corrected(random weights)",
        "studies/manifold/map.py",
    ),
    Term(
        "max-T p",
        "A p for a whole map or curve at once: the chance that the largest of all cells comes out so high.",
        "(1 + draws whose largest statistic ≥ this one) / (1 + draws)",
        "Westfall & Young 1993; inference/tests.py",
    ),
    Term(
        "Holm p",
        "A p that stays honest over the layers of its row.",
        "the k-th smallest of m times (m − k + 1), made monotone",
        "Holm 1979",
    ),
    Term(
        "unit norm",
        "Points divided by their length: what is left is direction. Raw points keep it.",
        "x / ‖x‖",
        "inference/draws.py",
    ),
    Term(
        "reproducibility",
        "Whether two halves of the texts give the same map of neurons.",
        "rank correlation of the distances of both maps",
        "studies/neurons/maps.py",
    ),
    Term(
        "share",
        "How much of the variance of all points lies in the fitted subspace. A label can be read where it is "
        "small.",
        "tr(Pᵀ Σ P) / tr(Σ), beside the same of a random subspace",
        "studies/manifold/map.py",
    ),
    Term(
        "resid",
        "The residual stream: resid.0 enters block 0, resid.l leaves the l-th block, before the final norm.",
        "x ← x + attention(x); x ← x + MLP(x)",
        "models/sites.py",
    ),
)


def terms() -> list[dict[str, Any]]:
    """Every term as plain words."""
    return [asdict(t) for t in TERMS]


def page() -> str:
    """The terms as a page of the documentation."""
    parts = ["# Terms\n\nThe app says the same on the word itself.\n"]
    parts += [f"## {t.name}\n\n{t.meaning}\n\n`{t.formula}`\n\nSource: {t.source}\n" for t in TERMS]
    return "\n".join(parts)
