"""What the token study measures, under the names its curves go by: table, rows of it, and words for the
axis."""

from typing import Annotated, Any, NamedTuple

from transect.inference.design import StudyOptions
from transect.work.options import Option

#: Cosine from which two directions count as one cluster.
CLUSTER = 0.9


class TokenOptions(StudyOptions, total=False):
    """How token geometry is measured beyond its design."""

    n: Annotated[
        int | None, Option(None, "Points per cloud; by default 300, or what every run holds.", least=2)
    ]
    window: Annotated[int | None, Option(None, "Tokens of each text in the measures within texts.", least=3)]
    gradients: Annotated[bool, Option(True, "Gradients of the tokens' losses; they need the model.")]
    gradient_texts: Annotated[int, Option(12, "Texts behind the gradients.", least=4)]
    gradient_positions: Annotated[int, Option(4, "Tokens of each of them.", least=1)]


class Curve(NamedTuple):
    """Which rows of which table make a curve, and the label of its axis."""

    table: str
    where: dict[str, Any]
    label: str


#: Placements whose states have been through a norm when they leave a block.
NORMED = ("post", "deepnorm", "mix")
POOLED = ("anisotropy", "mean_norm", "effective_rank", "isoscore", "twonn")
UPDATES = ("euclidean", "relative_update", "update_alignment", "knn_overlap")
WITHIN = [
    ("anisotropy", "zero", {}),
    ("anisotropy", "mean", {}),
    ("rank_residual", "zero", {}),
    ("cluster_count", "zero", {"cosine": CLUSTER}),
    ("cluster_count", "mean", {"cosine": CLUSTER}),
]


#: Scales of intervals of what is no declared measure.
SCALES: dict[str, str] = dict.fromkeys(
    ("gradient_norm", "relative_gradient", "state_variance", "tortuosity"), "log"
)


def scale_of(measure: str) -> str:
    """The scale on which intervals of a measure are symmetric, as its declaration says."""
    from transect.measures.registry import registry

    known = registry().get(measure)
    return known.scale if known else SCALES.get(measure, "identity")


def _within(measure: str, about: str, label: str) -> Curve:
    return Curve("within", {"measure": measure, "about": about}, label)


def _pooled(measure: str, label: str, normalise: str = "raw") -> Curve:
    return Curve("layers", {"measure": measure, "normalise": normalise}, label)


CURVES: dict[str, Curve] = {
    "cosine": _pooled("anisotropy", "mean cosine, all texts"),
    "cosine centred": Curve("centred", {"measure": "anisotropy"}, "mean cosine, all texts,\nmean taken out"),
    "cosine in text": _within("anisotropy", "zero", "mean cosine within a text"),
    "cosine in text centred": _within(
        "anisotropy", "mean", "mean cosine within a text,\nmean of all taken out"
    ),
    "rank residual": _within("rank_residual", "zero", "rank residual\n(0: rank collapse)"),
    "clusters": _within("cluster_count", "zero", f"clusters of tokens (cos ≥ {CLUSTER})"),
    "clusters centred": _within(
        "cluster_count", "mean", f"clusters (cos ≥ {CLUSTER}),\nmean of all taken out"
    ),
    "norm": _pooled("mean_norm", "mean norm"),
    "update norm": Curve("updates", {"measure": "euclidean"}, "mean norm of the update"),
    "relative update": Curve(
        "updates", {"measure": "relative_update"}, "update / state\n(0: represent. collapse)"
    ),
    "alignment": Curve("updates", {"measure": "update_alignment"}, "cosine of update and state"),
    "neighbours": Curve("updates", {"measure": "knn_overlap"}, "neighbours kept by the next layer"),
    "gradient": Curve("gradients", {"measure": "gradient_norm"}, "gradient norm per token"),
    "relative gradient": Curve("gradients", {"measure": "relative_gradient"}, "gradient norm × state norm"),
    "block skipped": Curve(
        "skips", {"measure": "skipped_block"}, "loss gained by the block\n(0: curse of depth)"
    ),
    "variance": Curve("skips", {"measure": "state_variance"}, "variance of the state"),
    "effective rank": _pooled("effective_rank", "effective rank"),
    "effective rank unit": _pooled("effective_rank", "effective rank, unit-norm", "unit"),
    "isoscore": _pooled("isoscore", "IsoScore"),
    "dimension": _pooled("twonn", "TwoNN dimension"),
    "turning": Curve("paths", {"measure": "turning_angle"}, "turning angle (degrees)"),
    "tortuosity": Curve("paths", {"measure": "tortuosity"}, "path length /\ndistance covered"),
}
#: Figures of curves: name, title, curves.
PANELS: list[tuple[str, str, list[str]]] = [
    (
        "similarity",
        "Token similarity and rank collapse through depth",
        [
            "cosine in text",
            "cosine in text centred",
            "rank residual",
            "cosine",
            "cosine centred",
            "clusters centred",
        ],
    ),
    (
        "updates",
        "What each layer adds",
        ["norm", "update norm", "relative update", "alignment", "turning", "tortuosity"],
    ),
    ("gradients", "Gradient of a token's own loss at its states", ["gradient", "relative gradient"]),
    (
        "depth",
        "Curse of depth: growth of the state, and what each block is worth",
        ["variance", "block skipped"],
    ),
    (
        "shape",
        "Dimensions filled, and neighbours kept",
        ["effective rank", "effective rank unit", "isoscore", "dimension", "neighbours", "clusters"],
    ),
]
HEADLINES = ["cosine in text", "rank residual", "relative update", "relative gradient"]
