"""What a model is, as hashes: weights, adapter, tokenizer, configuration. Equal ids mean equal activations to
expect.

The base's weights keep their hash under an adapter, so a base and its fine-tunes can be recognised as kin.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from transect.errors import TransectError

#: configuration entries that say how or where a model was loaded, not what it computes
VOLATILE = {
    "_name_or_path",
    "transformers_version",
    "architectures",
    "_attn_implementation",
    "dtype",
    "use_cache",
}
VOLATILE |= {"output_hidden_states", "output_attentions", "return_dict", "torch_dtype", "_commit_hash"}
WRAPPING = ("base_model.model.", ".base_layer", ".original_module")  # names PEFT adds to the base's own


class Fingerprint(dict[str, Any]):
    """weights, adapter, tokenizer, config (sha256 or None), dtype, and `source`: where the weights came
    from."""

    @property
    def id(self) -> str:
        """Twelve hex digits over weights, adapter, tokenizer and config."""
        return _digest({key: self[key] for key in ("weights", "adapter", "tokenizer", "config")})[:12]


def fingerprint(model: Any, tokenizer: Any, source: dict[str, Any]) -> Fingerprint:
    """The fingerprint of a loaded model. Reads every weight once (about 1 s per 2 GB)."""
    base, adapter = split_adapter(model)
    config = {k: v for k, v in model.config.to_dict().items() if k not in VOLATILE}
    return Fingerprint(
        weights=tensors_hash(base),
        adapter=tensors_hash(adapter) if adapter else None,
        tokenizer=tokenizer_hash(tokenizer),
        config=_digest(config),
        dtype=str(model.dtype).removeprefix("torch."),
        source=source,
    )


def split_adapter(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(base tensors under the base's own names, adapter tensors); the second is empty without an adapter."""
    tensors = _tensors(model)
    if not hasattr(model, "peft_config"):
        return tensors, {}
    marks = (getattr(model.base_model, "prefix", "lora_"), ".modules_to_save.")
    base, adapter = {}, {}
    for name, tensor in tensors.items():
        if any(mark in name for mark in marks):
            adapter[name] = tensor
        else:
            for extra in WRAPPING:
                name = name.replace(extra, "")
            base[name] = tensor
    return base, adapter


def tensors_hash(tensors: dict[str, Any]) -> str:
    """sha256 over named tensors in sorted order: name, dtype, shape, bytes; a tied tensor counts once, as a
    tie."""
    import torch

    digest, seen = hashlib.sha256(), {}
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and (first := seen.setdefault(where, name)) != name:
            digest.update(f"{name}={first}\n".encode())
            continue
        digest.update(f"{name}:{str(tensor.dtype).removeprefix('torch.')}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 of the tokenizer's rules, special tokens and chat template; settings of single calls do not
    count."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules.pop("truncation", None)
    rules.pop("padding", None)
    return _digest(
        [rules, {k: str(v) for k, v in tokenizer.special_tokens_map.items()}, tokenizer.chat_template]
    )


def first_bad_tensor(model: Any) -> str | None:
    """Name of the first weight with NaN or infinity, or None."""
    import torch

    for name, tensor in _tensors(model).items():
        if not tensor.is_floating_point() or tensor.device.type == "meta" or not tensor.numel():
            continue
        if tensor.element_size() == 1:  # float8: no arithmetic on it
            tensor = tensor.float()
        quick = tensor.sum(dtype=torch.float32)  # finite for finite weights, but for an overflow of the sum
        if not bool(torch.isfinite(quick)) and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def _tensors(model: Any) -> dict[str, Any]:
    tensors = model.state_dict()
    if any(t.device.type == "meta" for t in _only_tensors(tensors.values())):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        tensors = get_state_dict_offloaded_model(model)
        if any(t.device.type == "meta" for t in _only_tensors(tensors.values())):
            raise TransectError(
                "some weights are neither in memory nor offloaded to it.", "Open with another device_map."
            )
    return {name: t for name, t in tensors.items() if hasattr(t, "numel")}


def _only_tensors(values: Iterable[Any]) -> list[Any]:
    return [v for v in values if hasattr(v, "device")]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
