"""The taps that a user's words name: families of sites, and any module by a glob over module names.

`module:model.layers.*.self_attn.q_proj:out` is what leaves the queries' projection of every block, `:in` what
enters it: the first tensor it is given. Names are those of the whole model, without what an adapter puts
around it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from transect.errors import TransectError, nearest
from transect.models.sites import MODULE, NUMBER, Tap, discover, globbed, select


def taps_for(model: Any, wanted: str | Sequence[str], layers: Iterable[int] | None = None) -> dict[str, Tap]:
    """Site → tap of everything that `wanted` names, in order.

    Args:
        model: A transformers model, with or without head and adapter.
        wanted: Families, single sites, and module:GLOB:in or module:GLOB:out.
        layers: Only these.

    Raises: TransectError for a name of nothing, with the nearest ones.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    modules = [name for name in names if name.startswith("module:")]
    there = discover(model, derived=True) if len(modules) < len(names) or not names else {}
    for name in modules:
        there |= _modules(model, name)
    selected = select(list(there), names, layers)
    return {site: there[site] for site in selected}


def _modules(model: Any, wanted: str) -> dict[str, Tap]:
    """The taps of one glob, by their sites."""
    match = MODULE.match(wanted)
    if not match:
        raise TransectError(
            f"{wanted!r} is no site.", "Any module is written module:model.layers.*.mlp:in or …:out."
        )
    root = model.get_base_model() if hasattr(model, "peft_config") else model
    there = {name: module for name, module in root.named_modules() if name}
    end = match["end"]
    reads = "input" if end == "in" else "output"
    modules = {
        f"module:{name}:{end}": Tap(f"module:{name}:{end}", module, reads)
        for name, module in there.items()
        if globbed(match["path"], name)
    }
    if not modules:
        known = dict.fromkeys(NUMBER.sub("*", f"module:{name}:{end}", count=1) for name in there)
        raise TransectError(
            f"no module fits {wanted!r}.{nearest(wanted, known)}",
            f"Modules here begin with {', '.join(list(known)[:3])}; * stands for one part of a name.",
        )
    return modules
