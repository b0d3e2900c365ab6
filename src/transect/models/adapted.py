"""PEFT adapters: found, checked, and put beside a base that opened with the head they were trained with."""

import json
import warnings
from pathlib import Path
from typing import Any

from transect.errors import TransectError, near_path
from transect.files import local
from transect.models.checkpoints import hub_reachable, loading, peft_at_work

#: Initialisations that change the base by data, or by a decomposition from random numbers.
UNREPEATABLE = ("corda", "lora_ga", "pissa_niter")
#: Names of classifiers' last layers.
HEADS = ("score", "classifier", "classifier.out_proj", "qa_outputs")


def split_spec(spec: str) -> tuple[str, str]:
    """(base, adapter) of BASE+ADAPTER; a plus in a folder's name stays there where that folder exists."""
    cuts = [i for i, c in enumerate(spec) if c == "+"]
    parts = {i: (spec[:i], spec[i + 1 :]) for i in cuts}
    there = {i: (bool(a) and local(a).exists(), bool(b) and local(b).is_dir()) for i, (a, b) in parts.items()}
    cut = max(cuts, key=lambda i: (sum(there[i]), there[i][1], i))
    base, adapter = parts[cut]
    if not base or not adapter:
        raise TransectError(
            f"{spec!r}: write BASE+ADAPTER, two model specs.", "For example smollm2+runs/lora."
        )
    return base, adapter


def task_of(adapter: str) -> tuple[str | None, int | None]:
    """(task that the adapter was trained for, classes of its head), where a local folder says."""
    folder = local(adapter)
    file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not file.is_file() or not weights.is_file():
        return None, None
    from safetensors import safe_open

    with loading(f"adapter {adapter}"):
        config = json.loads(file.read_text(encoding="utf-8"))
        task = config.get("task_type")
        with safe_open(str(weights), "pt") as tensors:
            names = list(tensors.keys())
            heads = [n for n in names if n.rpartition(".")[0].endswith(HEADS)]
            sizes = [tensors.get_slice(n).get_shape()[0] for n in heads if n.endswith("weight")]
    return task if isinstance(task, str) else None, sizes[-1] if sizes else None


def add_adapter(
    model: Any, adapter: str, base: str, options: dict[str, Any]
) -> tuple[Any, dict[str, Any], list[str]]:
    """(the model with a PEFT adapter beside its weights, where it came from, notes); nothing is merged but an
    adapter that is there before."""
    from peft import PeftConfig, PeftModel

    folder = _adapter_folder(adapter, options)
    with loading(f"adapter {adapter}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about settings that matter for training only
        config = PeftConfig.from_pretrained(str(folder))
    began = str(getattr(config, "init_lora_weights", ""))
    if began.startswith(UNREPEATABLE):
        raise TransectError(
            f"adapter {adapter} began from {began}, which changed the base in a way that cannot be repeated.",
            "Save it again with path_initial_model_for_weight_conversion (PEFT): it becomes a plain LoRA.",
        )
    if config.is_prompt_learning:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise TransectError(
            f"adapter {adapter} is {kind}: it changes the input, not the weights.",
            "Take one that changes weights, such as LoRA.",
        )
    with loading(f"adapter {adapter}"), peft_at_work():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        warnings.filterwarnings("ignore", message="`lora_bias=True` was passed")
        model = model.merge_and_unload() if isinstance(model, PeftModel) else model
        wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=False)
    trained_on, notes = str(config.base_model_name_or_path or ""), []
    if trained_on and Path(trained_on).name.split("@")[0] != Path(base).name.split("@")[0]:
        notes.append(f"the adapter was trained on {Path(trained_on).name}, opened on {Path(base).name}")
    named = ("peft_type", "r", "lora_alpha", "target_modules", "base_model_name_or_path")
    facts = {key: value for key in named if (value := getattr(config, key, None)) is not None}
    return wrapped, {key: sorted(v) if isinstance(v, set) else str(v) for key, v in facts.items()}, notes


def _adapter_folder(adapter: str, options: dict[str, Any]) -> Path:
    """The adapter's local folder, from the hub where it is not one; safetensors or nothing."""
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        if folder.parent.is_dir() and str(folder.parent) != ".":  # a slip in a path, not an id of a hub
            raise TransectError(
                f"no adapter {adapter!r}: no such folder.{near_path(folder)}",
                "Give the folder that peft wrote.",
            )

        with loading(f"adapter {adapter}"):
            wanted = ["adapter_config.json", "adapter_model.safetensors"]
            only = options.get("local_files_only") or not hub_reachable()
            folder = Path(snapshot_download(adapter, allow_patterns=wanted, local_files_only=bool(only)))
    if not (folder / "adapter_config.json").is_file():
        raise TransectError(
            f"{adapter} has no adapter_config.json.", "Give the folder PEFT's save_pretrained wrote."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise TransectError(
            f"{adapter} has no adapter_model.safetensors.", "Pickled adapters are not loaded."
        )
    return folder
