"""Transect: how the geometry of a transformer's representations changes, and where a feature lives in it."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__version__ = "0.1.0"


def publish(
    package: str, names: Callable[[], dict[str, str]], known: Callable[[], dict[str, str]] | None = None
) -> None:
    """Give `package` the attributes of `names()`: public name → "module:attribute", or "module" for a whole
    module.

    `known`: the names so far, where to ask for all of them imports files, one of which may be half imported.
    """

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            target = {} if name.startswith("__") else names()
            if name not in target:
                there = ", ".join(target) or "nothing"
                raise AttributeError(f"{package} has no {name!r}; there is: {there}")
            module, _, attribute = target[name].partition(":")
            module_of = importlib.import_module(module)
            value = getattr(module_of, attribute) if attribute else module_of
            super().__setattr__(name, value)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            # importing a file binds it on its package; the public name of the same spelling stays what it is
            if not (isinstance(value, ModuleType) and self._takes_place(name)):
                super().__setattr__(name, value)

        def _takes_place(self, name: str) -> bool:
            try:
                return ":" in (known or names)().get(name, "")
            except ImportError:  # a file that the list of names itself is made with
                return False

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *names()})

    sys.modules[package].__class__ = Package


#: Public name → where it lives. Imported when asked for, so that `import transect` and `transect --help` are
#: quick.
_PUBLIC = {
    "open_model": "transect.models.models:open_model",
    "wrap_model": "transect.models.models:wrap_model",
    "open_texts": "transect.texts.texts:open_texts",
    "open_store": "transect.store.store:open_store",
    "capture": "transect.store.capture:capture",
    "capture_images": "transect.store.images:capture_images",
    "store_from_arrays": "transect.store.arrays:store_from_arrays",
    "align": "transect.store.align:align",
    "sweep": "transect.inference.sweep:sweep",
    "SupervisedMDS": "transect.numeric.smds:SupervisedMDS",
    "report": "transect.page.report:report",
    "measure": "transect.measures.contract:measure",
    "Measure": "transect.measures.contract:Measure",
    "Model": "transect.models.models:Model",
    "Texts": "transect.texts.texts:Texts",
    "Store": "transect.store.store:Store",
    "Table": "transect.results.table:Table",
    "Study": "transect.results.study:Study",
    "TransectError": "transect.errors:TransectError",
    "measures": "transect.measures",
    "studies": "transect.studies",
    "integrations": "transect.integrations",
    "figures": "transect.results.drawing",
    "controls": "transect.inference.controls",
    "changes": "transect.numeric.change_points",
    "neurons": "transect.studies.neurons.maps",
}
publish(__name__, lambda: _PUBLIC)
