"""Weights on disk or from a hub → a transformers model in memory. Never unpickles, never fills gaps with
random numbers.

Folders, hub ids, GGUF files (dequantised once into the cache), PEFT adapters, and random weights from a
configuration.
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
from transect.files import read_json, write_json
from transect.models.limits import check_sizes
from transect.packages import cache_dir, hub_reachable, staging

#: model types of our own and the module that registers them with transformers
OURS = {"transect": "transect.train.decoder"}
#: Task of an adapter → the class with its head.
TASKS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
NO_HUB = "Without a hub there are smollm2, minilm, a local folder, a GGUF file, and random:CONFIG.json."
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Quiet transformers while it loads `what`, and turn its errors about files into a TransectError."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except TransectError:
        raise
    except Exception as error:  # what a damaged file makes a library raise is no list that anyone knows
        said = " ".join(str(error).split())[:4000]
        raise TransectError(f"{what} cannot be loaded: {type(error).__name__}: {said}", NO_HUB) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def hub_options(source: str | Path, revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """Arguments every from_pretrained gets: revision, remote code, and the local cache only where no hub
    answers."""
    if Path(source).is_dir():
        return {"trust_remote_code": trust_remote_code, "local_files_only": True}
    return {
        "trust_remote_code": trust_remote_code,
        "revision": revision,
        "local_files_only": not hub_reachable(),
    }


def check_folder(folder: Path) -> None:
    """Raise unless `folder` holds a configuration and safetensors."""
    if not (folder / "config.json").is_file():
        hint = (
            "It holds an adapter: write BASE+ADAPTER." if (folder / "adapter_config.json").is_file() else ""
        )
        raise TransectError(f"{folder} has no config.json.", hint or "Give the folder save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
        if pickles:
            raise TransectError(
                f"{folder} holds its weights as pickle only ({pickles[0]}); loading one can run any code.",
                "Where you trust it, convert it: AutoModel….from_pretrained(folder).save_pretrained(new, "
                "safe_serialization=True).",
            )
        raise TransectError(
            f"{folder} has a configuration but no safetensors.", "For random weights: random:FOLDER."
        )


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
        config = AutoConfig.from_pretrained(source, **options)
    check_sizes(config, f"{source}")
    return config


def declared(config: Any) -> str:
    """The class that wrote the configuration, or ""."""
    named = getattr(config, "architectures", None)
    return str(named[0]) if isinstance(named, list | tuple) and named else ""


def kind_of(config: Any, named: str = "") -> str:
    """ "encoder-decoder", "encoder" or "decoder", by the configuration (of the text tower) and the class
    `named`."""
    from transformers.models.auto import modeling_auto as auto

    named = named or declared(config)
    if named.endswith("EncoderModel"):  # one half of an encoder–decoder
        return "encoder"
    if (tower := config.get_text_config()) is not config and not getattr(config, "is_encoder_decoder", False):
        return kind_of(tower, named if named.endswith("ForCausalLM") else " ")
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if named.endswith(("ForCausalLM", "LMHeadModel")) or getattr(config, "is_decoder", False):
        return "decoder"
    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    with contextlib.suppress(KeyError):
        auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        return "decoder"
    return "encoder"


def auto_class(config: Any, task: str | None = None) -> Any:
    """The class that opens this configuration: with a language-model head unless it is an encoder or half a
    model.

    Args:
        task: of an adapter ("SEQ_CLS", …): opens with the head that it was trained with.
    """
    import transformers as tf

    if task in TASKS:
        return getattr(tf, TASKS[task])
    if declared(config).endswith("EncoderModel") and hasattr(tf, declared(config)):
        return getattr(tf, declared(config))
    kind = kind_of(config)
    if kind == "encoder-decoder":
        return tf.AutoModelForSeq2SeqLM
    return tf.AutoModelForCausalLM if kind == "decoder" and _has_head(config) else tf.AutoModel


def _has_head(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING as heads

    return type(config) in heads or "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})


def load_weights(
    source: str | Path, config: Any, options: dict[str, Any], task: str | None = None, **how: Any
) -> Any:
    """The model at `source`. Weights of its body that are missing raise; a head that is not there is left
    out.

    Args:
        task: of an adapter that brings its own head; see `auto_class`.
    """
    with loading(f"{source}"):
        opener = auto_class(config, task)
        model, report = opener.from_pretrained(
            source, config=config, use_safetensors=True, output_loading_info=True, **options, **how
        )
    missing, body = set(report["missing_keys"]), getattr(model, "base_model", model)
    poolers = {name for name in missing if "pooler." in name}
    if poolers and task is None:
        body.pooler, missing = None, missing - poolers
    lost = (missing - poolers) & set(
        body.state_dict(prefix=f"{model.base_model_prefix}." if body is not model else "")
    )
    if lost or report["mismatched_keys"]:
        names = ", ".join(sorted(map(str, lost or report["mismatched_keys"])))[:4000]
        raise TransectError(
            f"{source} lacks weights its configuration asks for: {names}.", "The checkpoint is damaged."
        )
    if missing and task is None:
        return body
    for name in missing:  # an untrained head or pooler: the adapter brings its own head
        model.get_parameter(name).data.zero_()
    return model


def random_model(config: Any, seed: int, dtype: Any) -> Any:
    """Random weights by the architecture's own initialisation: the same numbers for the same seed in any
    dtype."""
    import torch

    with torch.random.fork_rng(devices=[]), loading(f"random {config.model_type}"):
        torch.manual_seed(seed)
        model = auto_class(config).from_config(config, dtype=torch.float32)
        if finish := getattr(
            model, "after_random", None
        ):  # an initialisation that looks at what the model does
            finish()
        return model.to(dtype)


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
            source = {
                "format": "gguf",
                "file": file.name,
                "sha256": digest,
                "quantisation": _tensor_types(file),
            }
            write_json(fresh / "source.json", source)
    return folder


def source_facts(folder: Path) -> dict[str, Any]:
    """What `dequantised` wrote about where a folder's weights came from; nothing for other folders."""
    if folder.resolve().parent != (cache_dir() / "models").resolve():
        return {}
    file = folder / "source.json"
    return read_json(file, "model", f"Delete {folder}: it is made again.") if file.is_file() else {}


def family_default(model_type: str) -> Any | None:
    """transformers' default configuration of a family such as "gpt2", or None where there is no such
    family."""
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


@contextlib.contextmanager
def peft_at_work() -> Iterator[None]:
    """Without the warnings that peft causes itself: it asks transformers under a name that it gives up, and
    doubts layers that it tunes."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        warnings.filterwarnings("ignore", message="Unsupported layer type")
        yield


def load_tokenizer(source: str | Path, options: dict[str, Any]) -> Any:
    """The fast tokenizer at `source`, padding right, with a padding token."""
    from transformers import AutoTokenizer

    with loading(f"the tokenizer of {source}"):
        return ready_tokenizer(AutoTokenizer.from_pretrained(source, **options), str(source))


def ready_tokenizer(tokenizer: Any, name: str) -> Any:
    """The tokenizer as everything here wants it: fast (offsets), padding right, padding token set without a
    new row."""
    if not getattr(tokenizer, "is_fast", False):
        raise TransectError(
            f"{name}: its tokenizer gives no character offsets.", "A fast tokenizer is needed."
        )
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer
