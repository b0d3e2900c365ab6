"""Weights on disk or from a hub → a transformers model in memory. Never unpickles, never fills gaps with random numbers.

Folders, hub ids, GGUF files (dequantised once into the cache), PEFT adapters, and random weights from a configuration.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.packages import cache_dir, hub_reachable, staging

#: model types of our own and the module that registers them with transformers
OURS = {"transect": "transect.train.decoder"}
NO_HUB = "Without a hub there are smollm2, minilm, a local folder, a GGUF file, and random:CONFIG.json."
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Quiet transformers while it loads `what`, and turn its errors about files into a TransectError."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except TransectError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, ImportError, UserWarning) as error:
        said = " ".join(str(error).split())[:300]
        raise TransectError(f"{what} cannot be loaded: {type(error).__name__}: {said}", NO_HUB) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def hub_options(source: str | Path, revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """Arguments every from_pretrained gets: revision, remote code, and the local cache only where no hub answers."""
    if Path(source).is_dir():
        return {"trust_remote_code": trust_remote_code, "local_files_only": True}
    return {"trust_remote_code": trust_remote_code, "revision": revision, "local_files_only": not hub_reachable()}


def check_folder(folder: Path) -> None:
    """Raise unless `folder` holds a configuration and safetensors."""
    if not (folder / "config.json").is_file():
        hint = "It holds an adapter: write BASE+ADAPTER." if (folder / "adapter_config.json").is_file() else ""
        raise TransectError(f"{folder} has no config.json.", hint or "Give the folder save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
        if pickles:
            raise TransectError(
                f"{folder} holds its weights as pickle only ({pickles[0]}); loading one can run any code.",
                "Where you trust it, convert it: AutoModel….from_pretrained(folder).save_pretrained(new, "
                "safe_serialization=True).",
            )
        raise TransectError(f"{folder} has a configuration but no safetensors.", "For random weights: random:FOLDER.")


def register_ours(model_type: str) -> None:
    """Import the module of ours that registers `model_type`, so that the Auto classes know it."""
    module = OURS.get(model_type.split("_")[0].split("-")[0])
    if module and importlib.util.find_spec(module.rpartition(".")[0]) and importlib.util.find_spec(module):
        importlib.import_module(module)


def load_config(source: str | Path, options: dict[str, Any]) -> Any:
    """The configuration at `source`."""
    from transformers import AutoConfig

    if (file := Path(source) / "config.json").is_file():
        with loading(f"{file}"):
            register_ours(str(json.loads(file.read_text(encoding="utf-8")).get("model_type", "")))
    lost = options.get("local_files_only") and not Path(source).is_dir()
    with loading(f"{source} (no hub can be reached)" if lost else f"{source}"):
        return AutoConfig.from_pretrained(source, **options)


def kind_of(config: Any) -> str:
    """ "encoder-decoder", "encoder" or "decoder", by the configuration."""
    from transformers.models.auto import modeling_auto as auto

    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    named = (getattr(config, "architectures", None) or [""])[0]
    if named.endswith(("ForCausalLM", "LMHeadModel")) or getattr(config, "is_decoder", False):
        return "decoder"
    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    with contextlib.suppress(KeyError):
        auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        return "decoder"
    return "encoder"


def auto_class(config: Any) -> Any:
    """The Auto class that opens this configuration: with a language-model head unless it is an encoder."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kinds = {"encoder-decoder": AutoModelForSeq2SeqLM, "decoder": AutoModelForCausalLM, "encoder": AutoModel}
    return kinds[kind_of(config)]


def load_weights(source: str | Path, config: Any, options: dict[str, Any], **how: Any) -> Any:
    """The model at `source`; weights that are missing there raise, an untrained pooler is left out."""
    with loading(f"{source}"):
        model, report = auto_class(config).from_pretrained(
            source, config=config, use_safetensors=True, output_loading_info=True, **options, **how
        )
    missing = sorted(report["missing_keys"])
    if missing and all("pooler." in name for name in missing):
        model.pooler = None
        missing = []
    if missing or report["mismatched_keys"]:
        names = ", ".join(map(str, missing or sorted(report["mismatched_keys"])))[:300]
        raise TransectError(
            f"{source} lacks weights its configuration asks for: {names}.", "The checkpoint is damaged."
        )
    return model


def random_model(config: Any, seed: int, dtype: Any) -> Any:
    """Random weights by the architecture's own initialisation: the same numbers for the same seed in any dtype."""
    import torch

    with torch.random.fork_rng(devices=[]), loading(f"random {config.model_type}"):
        torch.manual_seed(seed)
        return auto_class(config).from_config(config, dtype=torch.float32).to(dtype)


def dequantised(file: Path, folder: Path | None = None) -> Path:
    """A safetensors copy (float32) of a GGUF file with its tokenizer, in the cache; made once."""
    if not file.is_file():
        raise TransectError(f"no file {file}.", "Give the path of a GGUF file.")
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    folder = folder or cache_dir() / "models" / f"gguf-{digest[:16]}"
    if not (folder / "source.json").is_file():
        with staging(folder) as fresh:
            _dequantise(file, fresh)
            source = {"format": "gguf", "file": file.name, "sha256": digest, "quantisation": _tensor_types(file)}
            (fresh / "source.json").write_text(json.dumps(source, indent=1), encoding="utf-8")
    return folder


def source_facts(folder: Path) -> dict[str, Any]:
    """What `dequantised` wrote about where a folder's weights came from; nothing for other folders."""
    file = folder / "source.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def family_default(model_type: str) -> Any | None:
    """transformers' default configuration of a family such as "gpt2", or None where there is no such family."""
    from transformers import AutoConfig

    with contextlib.suppress(ValueError):
        return AutoConfig.for_model(model_type)
    return None


def _dequantise(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with loading(f"{file}"):
        where = {"gguf_file": file.name, "local_files_only": True}
        quantised = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
        config = quantised.config
        if hasattr(config, "quantization_config"):
            delattr(config, "quantization_config")
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(quantised.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = quantised.generation_config
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, **where).save_pretrained(folder)


def _tensor_types(file: Path) -> dict[str, int]:
    from collections import Counter

    from gguf import GGUFReader

    return dict(Counter(tensor.tensor_type.name for tensor in GGUFReader(file).tensors))


def add_adapter(model: Any, adapter: str, base: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any], list[str]]:
    """(the model with a PEFT adapter beside its weights, where it came from, notes); nothing is merged."""
    from peft import PeftConfig, PeftModel

    folder = _adapter_folder(adapter, options)
    with loading(f"adapter {adapter}"):
        config = PeftConfig.from_pretrained(str(folder))
    if config.is_prompt_learning:
        raise TransectError(f"adapter {adapter} is {config.peft_type}: it changes the input, not the weights.")
    with loading(f"adapter {adapter}"), peft_at_work():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=False)
    trained_on, notes = str(config.base_model_name_or_path or ""), []
    if trained_on and Path(trained_on).name.split("@")[0] != Path(base).name.split("@")[0]:
        notes.append(f"the adapter was trained on {Path(trained_on).name}, opened on {Path(base).name}")
    named = ("peft_type", "r", "lora_alpha", "target_modules", "base_model_name_or_path")
    facts = {key: value for key in named if (value := getattr(config, key, None)) is not None}
    return wrapped, {key: sorted(v) if isinstance(v, set) else str(v) for key, v in facts.items()}, notes


@contextlib.contextmanager
def peft_at_work() -> Iterator[None]:
    """Without the one warning that peft causes itself: it asks transformers under a name that it gives up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _adapter_folder(adapter: str, options: dict[str, Any]) -> Path:
    """The adapter's local folder, from the hub where it is not one; safetensors or nothing."""
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        with loading(f"adapter {adapter}"):
            wanted = ["adapter_config.json", "adapter_model.safetensors"]
            only = options.get("local_files_only") or not hub_reachable()
            folder = Path(snapshot_download(adapter, allow_patterns=wanted, local_files_only=bool(only)))
    if not (folder / "adapter_config.json").is_file():
        raise TransectError(f"{adapter} has no adapter_config.json.", "Give the folder PEFT's save_pretrained wrote.")
    if not (folder / "adapter_model.safetensors").is_file():
        raise TransectError(f"{adapter} has no adapter_model.safetensors.", "Pickled adapters are not loaded.")
    return folder


def load_tokenizer(source: str | Path, options: dict[str, Any]) -> Any:
    """The fast tokenizer at `source`, padding right, with a padding token."""
    from transformers import AutoTokenizer

    with loading(f"the tokenizer of {source}"):
        return ready_tokenizer(AutoTokenizer.from_pretrained(source, **options), str(source))


def ready_tokenizer(tokenizer: Any, name: str) -> Any:
    """The tokenizer as everything here wants it: fast (offsets), padding right, padding token set without a new row."""
    if not getattr(tokenizer, "is_fast", False):
        raise TransectError(f"{name}: its tokenizer gives no character offsets.", "A fast tokenizer is needed.")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer
