"""Transect: how the geometry of a transformer's representations changes, and where a feature lives in it."""

from transect.lazy import publish

__version__ = "0.1.0"

#: Public name → where it lives. Imported when asked for, so that `import transect` and `transect --help` are quick.
_PUBLIC = {
    "open_model": "transect.models:open_model",
    "wrap_model": "transect.models:wrap_model",
    "open_texts": "transect.texts:open_texts",
    "open_store": "transect.store:open_store",
    "capture": "transect.capture:capture",
    "sweep": "transect.sweep:sweep",
    "SupervisedMDS": "transect.smds:SupervisedMDS",
    "report": "transect.report:report",
    "measure": "transect.measure:measure",
    "Measure": "transect.measure:Measure",
    "Model": "transect.models:Model",
    "Texts": "transect.texts:Texts",
    "Store": "transect.store:Store",
    "Table": "transect.table:Table",
    "Study": "transect.study:Study",
    "TransectError": "transect.errors:TransectError",
    "measures": "transect.measures",
    "studies": "transect.studies",
    "figures": "transect.figures",
    "controls": "transect.controls",
    "changes": "transect.changes",
    "neurons": "transect.neurons",
}
publish(__name__, lambda: _PUBLIC)
