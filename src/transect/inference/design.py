"""The design of a measurement: which points, how many, how they are cut into groups, and from which seed."""

from typing import Annotated, Any, TypedDict

from transect.work.options import Option, Values, WorkOptions


class PointOptions(TypedDict, total=False):
    """Which points there are."""

    sites: Annotated[str, Option("resid", "Family or single site; several separated by commas.")]
    tokens: Annotated[str | int, Option("all", '"all", "last", "mean", "landmark:NAME+k", or a position.')]
    position0: Annotated[
        bool, Option(False, "Keep the first token of every text (dropped by default: the sink).")
    ]
    massive: Annotated[
        float | None,
        Option(
            10.0,
            "Drop tokens above so many median norms at any site, in all runs alike; 0 keeps them.",
            least=0,
        ),
    ]


class DesignOptions(PointOptions, total=False):
    """Which points are measured, and how they are drawn."""

    n: Annotated[
        int | None, Option(None, "Points per cloud; by default 1000, or what the texts hold.", least=2)
    ]
    groups: Annotated[int, Option(10, "Groups of texts behind the intervals.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


class Design(Values):
    """Frozen value of DesignOptions."""

    group = DesignOptions


class StudyOptions(DesignOptions, WorkOptions, total=False):
    """What every study takes: a design and where the work is done."""


class RunOptions(StudyOptions, total=False):
    """The same, and texts for runs that are not captured yet."""

    texts: Annotated[Any, Option(None, "Texts to capture models on: a file, gsm-test:60, …")]
