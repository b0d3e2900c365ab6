"""An adapter folder with factors that are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

#: Rank and alpha of a planted adapter.
R, ALPHA = 3, 12
Q0, DOWN1 = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def plant(folder: Path, base: str, factors: dict[str, Any], **config: Any) -> Path:
    """An adapter folder with given (B, A) by module name."""
    folder.mkdir(parents=True)
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "r": R,
        "lora_alpha": ALPHA,
        "base_model_name_or_path": base,
        "target_modules": sorted(factors),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    tensors = {}
    for name, (B, A) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.ascontiguousarray(A, np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.ascontiguousarray(B, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
