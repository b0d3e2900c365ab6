"""Studies by name: `ts.studies.drift(store)`. A file here answers one question with the function of its own name."""

import pkgutil

from transect.lazy import publish

publish(__name__, lambda: {m.name: f"transect.studies.{m.name}:{m.name}" for m in pkgutil.iter_modules(__path__)})
