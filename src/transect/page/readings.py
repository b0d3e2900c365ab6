"""What the page asks of a store beyond its studies: one neuron, one text's token similarity, one cell's
scatter.

Runs in the worker process. Every number comes with its n; the first token of every text is left out, as in
the studies.
"""

from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites
from transect.store.store import Store, open_store
from transect.studies.manifold.plan import MapJob
from transect.studies.manifold.subspaces import scatter

TOP = 6
#: Tokens of one text whose cosines are sent: the square of it travels.
TOKENS = 160


def neuron_reading(path: str, site: str, neuron: int) -> dict[str, Any]:
    """Mean, spread and share of large values of one neuron, its extreme tokens in context, the closest by
    correlation."""
    store = open_store(path)
    width = store.width(store.check_site(site))
    if not 0 <= neuron < width:
        raise TransectError(f"{site} has no neuron {neuron}.", f"There are {width}.")
    selection = store.select("all", False)
    values = np.concatenate(
        [store.read(site, part)[:, neuron] for part in selection.split(_block(width))]
    ).astype(np.float64)
    centre, n = values.mean(), len(values)
    sums, squares, cross = np.zeros(width), np.zeros(width), np.zeros(width)
    at = 0
    shift = store.read(site, selection.rows[:1])[0].astype(np.float64)
    for part in selection.split(_block(width)):
        X = store.read(site, part) - shift
        sums += X.sum(axis=0)
        squares += (X.astype(np.float64) ** 2).sum(axis=0)
        cross += (values[at : at + len(X)] - centre) @ X
        at += len(X)
    spread = np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = cross / n / (spread * values.std())
    rho[neuron] = np.nan
    known = np.flatnonzero(np.isfinite(rho))
    nearest = known[np.argsort(-np.abs(rho[known]))][:TOP]
    order = np.argsort(values)
    heads = store.manifest["model"].get("heads") if sites.family(site).endswith("attn.head") else None
    return {
        "site": site,
        "neuron": neuron,
        "n": n,
        "n_texts": len(store),
        "mean": float(centre),
        "sd": float(values.std()),
        "kurtosis": float(((values - centre) ** 4).mean() / values.var() ** 2 - 3)
        if values.var() > 0
        else None,
        "zero": float((values == 0).mean()),
        "head": neuron * heads // width if heads else None,
        "largest": [context(store, *where(selection, k), float(values[k])) for k in order[::-1][:TOP]],
        "smallest": [context(store, *where(selection, k), float(values[k])) for k in order[:TOP]],
        "nearest": [{"neuron": int(i), "rho": float(rho[i])} for i in nearest],
    }


def _block(width: int) -> int:
    return max(1, (32 << 20) // (4 * width))


def where(selection: Any, k: Any) -> tuple[int, int]:
    """Text and position of the k-th point of a selection."""
    return int(selection.texts[k]), int(selection.position[k])


def context(store: Store, text: int, at: int, value: float | None) -> dict[str, Any]:
    """A token in its sentence, with the number it is listed for."""
    pieces = store.tokens(text)
    before, after = "".join(pieces[max(0, at - 8) : at]), "".join(pieces[at + 1 : at + 5])
    return {
        "value": value,
        "text": text,
        "position": at,
        "before": before,
        "token": pieces[at],
        "after": after,
    }


def token_similarity(path: str, site: str, text: int, centred: bool = True) -> dict[str, Any]:
    """Cosine between every two tokens of one text, its first token left out; centred: on the mean of all
    tokens."""
    store = open_store(path)
    store.check_site(site)
    if store.manifest["pool"]:
        raise TransectError(
            f"{store.path.name} holds one point per text, no tokens.", "Capture without --pool."
        )
    X = store.sample(text, site).astype(np.float64)[1 : TOKENS + 1]
    pieces = store.tokens(text)[1 : TOKENS + 1]
    if len(X) < 2:
        raise TransectError(
            f"text {text} has fewer than two tokens after its first.", "Choose a longer text."
        )
    if centred:
        selection = store.select("all", False)
        some = selection.rows[:: max(1, len(selection) // 4000)]
        X = X - store.read(site, some).mean(axis=0, dtype=np.float64)
    X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
    C = X @ X.T
    off = C[~np.eye(len(C), dtype=bool)]
    rounded = [[round(float(v), 4) for v in row] for row in C]
    return {
        "site": site,
        "text": text,
        "tokens": pieces,
        "cosine": rounded,
        "mean": float(off.mean()),
        "n": len(C),
        "centred": centred,
    }


def cell_scatter(path: str, plan: dict[str, Any], site: str, token: str, orthonormal: bool) -> dict[str, Any]:
    """Held-out points of one cell of a manifold map, with the options of its study."""
    store = open_store(path)
    store.check_site(site)
    shapes = tuple((str(name), str(spec)) for name, spec in plan["shapes"])
    job = MapJob(path, store.fingerprint, (token,), tuple(plan["label"]), plan["group"], shapes)
    options = {
        "n_components": plan["dimension"],
        "alpha": plan["alpha"],
        "scale": plan["scale"],
        "folds": plan["folds"],
    }
    job = MapJob(**{**job.__dict__, **options, "permutations": 0, "seed": plan["seed"]})
    rows = scatter(store, job, (site, token), orthonormal)
    axes = [f"{kind}{k + 1}" for kind in ("z", "ideal") for k in range(plan["dimension"])]
    points = {a: [float(r[a]) for r in rows] for a in (*axes, "label_value") if a in rows[0]}
    row = {"site": site, "token": token, "n": len(rows), "value": float(rows[0]["value"])}
    return row | {"points": points, "samples": [str(r["sample"]) for r in rows]}
