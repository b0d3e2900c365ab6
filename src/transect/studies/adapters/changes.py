"""ΔW of every tensor that an adapter or a fine-tune changes: what merging it would add to the base.

A plain LoRA on untouched weights keeps its factors, so that its singular values come from the r × r core of A
and B. Everything else is merged and the base subtracted: initialisations that change the base's weights
(PiSSA, OLoRA, LoftQ, …), DoRA, modules that were saved whole, trained tokens and biases.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.models.adapted import add_adapter
from transect.models.checkpoints import TASKS, peft_at_work
from transect.models.models import open_model

#: The number of the block in a weight's name.
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block|blocks)\.(\d+)\.")


class Change(NamedTuple):
    """ΔW of one tensor by its singular value decomposition: left [m, k], values [k], right [k, n]; W [m, n].

    `rank` and `scaling` (what B A is multiplied by) are those of the adapter where ΔW is a plain product. A
    vector is a matrix of one column.
    """

    name: str
    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    weight: np.ndarray
    rank: int | None
    scaling: float | None = None


def base_weights(spec: str) -> dict[str, np.ndarray]:
    """Every weight of a model, float32: matrices [out, in] by their module's name, vectors by their own."""
    return _weights(_opened(spec))


def _opened(spec: str) -> Any:
    """The model behind a spec, an adapter that belongs to the spec merged."""
    model = open_model(spec, dtype="float32", device="cpu").model
    with peft_at_work():
        return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _weights(model: Any) -> dict[str, np.ndarray]:
    turned = {f"{name}.weight" for name, module in model.named_modules() if type(module).__name__ == "Conv1D"}
    tensors = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        array = weight.detach().float().numpy().copy()
        array = array.T if name in turned else array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
        tensors[name.removesuffix(".weight")] = array
    return tensors


def adapter_changes(folder: Path, config: dict[str, Any], base: str) -> tuple[list[Change], list[str]]:
    """(ΔW of every changed tensor, warnings about what is left out)."""
    plain = _opened(base)
    before = _weights(plain)
    _check_tensors(folder, before)
    if config.get("task_type") in TASKS:  # opened anew, with the head that it was trained with
        wrapped = open_model(f"{base}+{folder}", dtype="float32", device="cpu").model
    else:
        wrapped = add_adapter(plain, str(folder), base, {"local_files_only": True})[0]
    changes, left_out = [], _unmergeable_biases(wrapped)
    products = _products(wrapped, before)
    with peft_at_work():
        try:
            merged = wrapped.merge_and_unload()
        except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
            raise TransectError(
                f"{folder} ({config.get('peft_type')}) cannot be merged: {error}",
                f"Capture {base}+{folder} and compare its points with the base's.",
            ) from error
        after = _weights(merged)
    for name, weight in after.items():
        base_name = _in_base(name, before)
        if base_name is None or before[base_name].shape != weight.shape:
            left_out.append(name)
        elif name in products:
            left, right, *rest = products[name]
            changes.append(Change(name, *product_svd(left, right), before[base_name], *rest))
        elif not np.array_equal(before[base_name], weight):
            changes.append(_difference(name, weight, before[base_name]))
    return changes, [f"Left out, as the base has no such weight: {', '.join(left_out)}."] if left_out else []


def _unmergeable_biases(wrapped: Any) -> list[str]:
    """Switch off the biases of LoRA layers whose base has none, as no merge can hold them; their names."""
    names = []
    for name, module in wrapped.get_base_model().named_modules():
        biases = getattr(module, "lora_bias", {})
        if biases.get("default") and getattr(module.get_base_layer(), "bias", None) is None:
            biases["default"] = False
            names.append(f"{name}.lora_B.bias")
    return names


def _in_base(name: str, weights: dict[str, np.ndarray]) -> str | None:
    """The base's name of a weight: a classifier's encoder carries a prefix that a bare encoder has not."""
    bare = name.partition(".")[2]
    return next((n for n in (name, bare) if n in weights), None)


def _check_tensors(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """TransectError for a file that is cut short, holds nothing, or has factors that fit no weight."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
            names = list(file.keys())
            shapes = {name: file.get_slice(name).get_shape() for name in names}
    except (OSError, SafetensorError) as error:
        raise TransectError(
            f"{folder}/adapter_model.safetensors: cut short or missing ({error}).", "Train it again."
        ) from error
    if not shapes:
        raise TransectError(f"{folder} holds no weights.", "Give the folder that transect finetune wrote.")
    for name in (n for n in shapes if n.endswith("lora_A.weight")):
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        base_name = _in_base(module, weights)
        B = shapes.get(name.replace("lora_A", "lora_B"))
        if B is None or (base_name is None and not _of_parameter(module, weights)):
            raise TransectError(
                f"{folder}: no {'B matrix' if B is None else 'weight in the base'} for {module}.",
                "Is this the base it was trained on?",
            )
        if base_name and (B[0], shapes[name][1]) != weights[base_name].shape:
            rows, columns = weights[base_name].shape
            raise TransectError(
                f"{folder}: ΔW of {module} is {B[0]} × {shapes[name][1]}, W {rows} × {columns}.",
                "Give the base it was trained on.",
            )


def _of_parameter(module: str, weights: dict[str, np.ndarray]) -> bool:
    """Whether factors belong to a parameter inside a module, as those of fused experts do."""
    return any(name.startswith(f"{module.removesuffix('.base_layer')}.") for name in weights)


def _products(wrapped: Any, before: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    """Module → (scaled left factor, right factor, rank, scaling) where ΔW is their product on W as it was."""
    from peft.tuners.lora import Embedding, Linear

    products = {}
    for name, module in wrapped.get_base_model().named_modules():
        if type(module) not in (Embedding, Linear) or "default" not in module.scaling:
            continue
        if module.lora_variant or module.lora_bias.get("default") or module.use_dora.get("default"):
            continue
        weight = module.get_base_layer().weight.detach().float().numpy()
        weight = weight.T if type(module.get_base_layer()).__name__ == "Conv1D" else weight
        base_name = _in_base(name, before)
        if base_name is None or not np.array_equal(weight, before[base_name]):
            continue
        if type(module) is Embedding:
            left, right = module.lora_embedding_A["default"].T, module.lora_embedding_B["default"].T
        else:
            left, right = module.lora_B["default"].weight, module.lora_A["default"].weight
        left, right = (factor.detach().double().numpy() for factor in (left, right))
        scaling = float(module.scaling["default"])
        products[name] = scaling * left, right, int(module.r["default"]), scaling
    return products


def product_svd(B: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thin SVD of BA from the QR factors of both: r × r instead of m × n."""
    Q, R = np.linalg.qr(B)
    P, S = np.linalg.qr(A.T)
    U, s, V = np.linalg.svd(R @ S.T)
    return Q @ U, s, V @ P.T


def full_changes(spec: str, names: list[str], weights: dict[str, np.ndarray]) -> Iterator[Change]:
    """W − W_base of the same weights in a full fine-tune."""
    tuned = base_weights(spec)
    for name in names:
        if name not in tuned or tuned[name].shape != weights[name].shape:
            raise TransectError(
                f"{spec} has no {name} of the base's shape.", "Give a fine-tune of this base."
            )
        yield _difference(name, tuned[name], weights[name])


def all_changes(spec: str, base: str) -> tuple[list[Change], list[str]]:
    """(W − W_base of every weight that a full fine-tune changed, warnings about what is left out)."""
    tuned, before, changes, left_out = base_weights(spec), base_weights(base), [], []
    seen: list[np.ndarray] = []
    for name, weight in tuned.items():
        base_name = _in_base(name, before)
        if base_name is None or before[base_name].shape != weight.shape:
            left_out.append(name)
        elif not np.array_equal(before[base_name], weight) and not any(
            np.array_equal(weight, w) for w in seen
        ):
            changes.append(_difference(name, weight, before[base_name]))
            seen += (
                [weight] if LAYER.search(name) is None else []
            )  # an embedding tied to the head counts once
    return changes, [f"Left out, as the base has no such weight: {', '.join(left_out)}."] if left_out else []


def _difference(name: str, weight: np.ndarray, base: np.ndarray) -> Change:
    U, s, V = np.linalg.svd(weight.astype(np.float64) - base, full_matrices=False)
    return Change(name, U, s, V, base, None)
