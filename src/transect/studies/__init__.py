"""Studies by name: `ts.studies.drift(store)`. A file here answers one question with the function of its own name; files that
begin with an underscore belong to one of them."""

import pkgutil

from transect.lazy import publish

publish(
    __name__,
    lambda: {m.name: f"transect.studies.{m.name}:{m.name}" for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"},
)
