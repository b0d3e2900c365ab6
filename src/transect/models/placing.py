"""Where weights go and in which numbers: dtype, device and quantisation, checked before anything is read."""

import importlib.util
from typing import Any

from transect.errors import TransectError


def placing(
    dtype: Any, device: Any, quantize: str | None, device_map: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """(dtype, device or None when from_pretrained places the weights, arguments of from_pretrained)."""
    import torch

    short = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    dtype = short.get(dtype, dtype) if isinstance(dtype, str) else dtype
    precision = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype != "auto" else dtype
    if dtype is not None and precision not in {
        "auto",
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
    }:
        raise TransectError(f"no dtype {dtype!r}.", "There are float32, bfloat16, float16, float64 and auto.")
    cuda = torch.cuda.is_available()
    if device is not None:
        _check_device(str(device), cuda)
    if quantize:
        return _quantised(quantize, precision, cuda, device_map)
    if device_map is not None:
        return precision or torch.float32, None, {"device_map": device_map}
    return precision or torch.float32, device or ("cuda" if cuda else "cpu"), {}


def _check_device(device: str, cuda: bool) -> None:
    import torch

    if device.startswith("cuda") and not cuda:
        raise TransectError(f"device {device}: torch sees no CUDA device here.", "Use --device cpu.")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        said = str(error).splitlines()[0]
        raise TransectError(
            f"device {device!r:.60}: torch cannot use it here ({said}).", "Use --device cpu."
        ) from error


def _quantised(quantize: str, dtype: Any, cuda: bool, device_map: Any) -> tuple[Any, Any, dict[str, Any]]:
    if quantize not in {"4bit", "8bit"}:
        raise TransectError(f"no quantisation {quantize!r}.", "There are 4bit and 8bit.")
    if not cuda:
        raise TransectError(f"{quantize} needs a CUDA device.", "Open without it, or in bfloat16.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TransectError(f"{quantize} needs bitsandbytes.", "pip install 'transect[quantized]'.")
    import torch
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if dtype in (None, "auto") else dtype
    if quantize == "4bit":
        asked = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    else:
        asked = BitsAndBytesConfig(load_in_8bit=True)
    return dtype, None, {"quantization_config": asked, "device_map": device_map or {"": 0}}
