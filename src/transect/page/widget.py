"""The page in a notebook: `transect.page.widget("runs/drift")`, with anywidget. Results only; a live model
needs the app."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.page.explore import bundle
from transect.page.payload import inlined
from transect.page.report import load_studies
from transect.results.study import Study

#: Bytes of data that a widget brings into the notebook.
BUDGET = 32 << 20


def widget(
    studies: Study | str | Path | Sequence[Study | str | Path], budget: int = BUDGET, at: str = ""
) -> Any:
    """A widget that shows studies, or folders that hold one or several. TransectError without the extra
    `notebook`. `at`: the part of an app's address behind `#`, to show the same view."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise TransectError(
            "the notebook widget needs anywidget.", "pip install 'transect[notebook]'."
        ) from error
    script, style = bundle()
    several: Sequence[Any] = studies if isinstance(studies, list | tuple) else [studies]
    data, _ = inlined([s for source in several for s in load_studies(source)], budget)
    kind = type("TransectWidget", (anywidget.AnyWidget,), {
        "_esm": script, "_css": style, "data": traitlets.Dict().tag(sync=True),
        "at": traitlets.Unicode().tag(sync=True), "__module__": __name__,
    })  # fmt: skip
    return kind(data=data, at=at)
