"""What a forward pass changes in the model itself, put back after it: every pass begins with the same model.

BigBird swaps its attention after a short text, rotary embeddings with scaling remember the longest text:
points would depend on what was run before.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from transect.errors import TransectError


@contextlib.contextmanager
def unchanged(model: Any, name: str) -> Iterator[None]:
    """Put back submodules, buffers, public attributes and configuration as they were when this began.

    Raises: TransectError when a buffer was written in place, which cannot be undone.
    """
    kept = [
        (module, _public(module), dict(module._modules), dict(module._buffers)) for module in model.modules()
    ]
    configs = [(config, dict(config.__dict__)) for config in {id(c): c for c in _configs(model)}.values()]
    versions = [(b, b._version) for b in model.buffers() if not b.is_inference()]
    try:
        yield
    finally:
        for module, public, modules, buffers in kept:
            _put_back(module._modules, modules)
            _put_back(module._buffers, buffers)
            now = _public(module)
            for key in now.keys() - public.keys():
                del module.__dict__[key]
            module.__dict__.update({k: v for k, v in public.items() if now.get(k) is not v})
        for config, values in configs:
            _put_back(config.__dict__, values)
    if any(buffer._version != version for buffer, version in versions):
        raise TransectError(
            f"{name} writes into its buffers while it runs: its points depend on the texts before.",
            "It cannot be captured.",
        )


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    if now.keys() != before.keys() or any(now[key] is not value for key, value in before.items()):
        now.clear()
        now.update(before)


def _public(module: Any) -> dict[str, Any]:
    return {key: value for key, value in module.__dict__.items() if not key.startswith("_")}


def _configs(model: Any) -> Iterator[Any]:
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "to_dict"):
            yield config
