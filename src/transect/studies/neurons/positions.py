"""Positions of neurons as safetensors: ours, the replaced program's, and files whose names hold a layer."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transect.errors import TransectError
from transect.store.store import Store

#: Projections into the neurons of an MLP, by the names that model families give them.
INTO = re.compile(r"up_proj|gate_proj|gate_up_proj|c_fc|fc1|fc_in|dense_h_to_4h|\bw[13]\b|\bwi\b|wi_\d")
QUERIES = re.compile(r"[qkv]_proj|c_attn|query|key|value|qkv")
OUTPUTS = re.compile(r"(mlp|attn)\.\d+\.out")


def save_positions(
    path: str | Path,
    positions: Mapping[str, np.ndarray],
    *,
    layout: Literal["sites", "modules"] = "sites",
    **origin: Any,
) -> Path:
    """Positions of several sites as safetensors, float32 [N, dim], origin in the metadata.

    sites: named by site. modules: `model.layers.3.mlp.neuron_projections` and
    `….self_attn.neuron_projections`, as the program Transformer Projector reads them; it knows block outputs
    alone, so that other sites than `mlp.out` and `attn.out` are refused.
    """
    from safetensors.numpy import save

    from transect.files import write_bytes

    if layout == "modules" and (odd := [s for s in positions if not OUTPUTS.fullmatch(s)]):
        raise TransectError(f"{odd[0]} is not the output of a block.", "Lay out mlp.out and attn.out.")
    named = {_module_of(site) if layout == "modules" else site: p for site, p in positions.items()}
    data = {name: np.ascontiguousarray(p, np.float32) for name, p in named.items()}
    write_bytes(Path(path), save(data, {k: str(v) for k, v in origin.items()}))
    return Path(path)


def load_positions(path: str | Path, store: Store | None = None) -> dict[str, np.ndarray]:
    """Positions from safetensors, by site: both layouts of `save_positions`, a checkpoint of
    Transformer Projector, or any file of [N, dim] tensors whose names hold a layer number and mlp or attn.

    Tensors of a projection are the neurons that it writes: up and gate those of mlp.N.act, down those of
    mlp.N.out; those of queries, keys and values keep their names. Two tensors for one site are refused. With
    a store, sites that it does not hold or that have another width are refused.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TransectError(
            f"{path}: not a readable safetensors file ({error}).", "Check the path."
        ) from error
    learned = {key: value for key, value in tensors.items() if "neuron_projection" in key}
    named: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    for key, value in (learned or tensors).items():
        if value.ndim == 2:
            site = _site_of(key)
            if site in named:
                raise TransectError(f"{path}: {origin[site]} and {key} are both {site}.", "Leave one out.")
            named[site], origin[site] = value, key
    for site, value in named.items() if store else ():
        assert store is not None
        if store.width(site) != len(value):
            raise TransectError(
                f"{path}: {site} has {len(value)} neurons, the store {store.width(site)}.",
                "It belongs to another model.",
            )
    return named


# below: helpers in reading order


def _module_of(site: str) -> str:
    block, layer, _ = site.split(".")
    return f"model.layers.{layer}.{'self_attn' if block == 'attn' else block}.neuron_projections"


def _site_of(key: str) -> str:
    from transect.models.sites import SITE

    if SITE.match(key):
        return key
    number, kind = re.search(r"\d+", key), re.search(r"mlp|attn|attention", key)
    if not number or not kind:
        raise TransectError(f"{key!r} names no layer and block.", "Name tensors like mlp.3.out.")
    if kind[0] != "mlp" and QUERIES.search(key):
        return key
    part = "act" if kind[0] == "mlp" and INTO.search(key) else "out"
    return f"{'mlp' if kind[0] == 'mlp' else 'attn'}.{number[0]}.{part}"
