"""What a store was captured from, read back out of it: its texts, its tokens, and its model."""

from typing import TYPE_CHECKING, Any

from transect.errors import TransectError
from transect.store.checks import ARRAYS
from transect.store.manifest import tokens_hash
from transect.store.store import Store
from transect.texts.texts import Texts, Tokenized

if TYPE_CHECKING:
    from transect.models.models import Model

#: Kind of model in the manifest of a store of images.
IMAGES = "images"
#: Arguments of open_model that a manifest may give. Never leave to run code: a store can come from anywhere.
REOPENED = ("quantize", "revision", "device_map", "tokenizer")


def stored_texts(store: Store) -> Texts:
    """The texts of a store with ids, labels, groups, landmarks and conversations, in their order."""
    columns, record = store.index.column_names, store.manifest["texts"]

    def prefixed(prefix: str) -> dict[str, list[Any]]:
        named = [name for name in columns if name.startswith(prefix)]
        return {name.removeprefix(prefix): store.index[name].to_pylist() for name in named}

    spans = {
        k: [None if v is None else (v[0], v[1]) for v in values] for k, values in prefixed("span:").items()
    }
    return Texts(
        store.index["text"].to_pylist(),
        store.ids,
        labels=prefixed("label:"),
        landmarks=spans,
        name=record["name"],
        spec=record["spec"],
        chat=record.get("chat", False),
        groups=store.index["group"].to_pylist() if "group" in columns else None,
        messages=_messages(store) if "messages" in columns else None,
    )


def _messages(store: Store) -> list[list[dict[str, str]]]:
    import json

    try:
        return [json.loads(text) for text in store.index["messages"].to_pylist()]
    except (TypeError, ValueError) as error:
        raise TransectError(
            f"{store.path}: texts.parquet holds conversations that are no JSON.", "Capture again."
        ) from error


def stored_tokens(store: Store) -> Tokenized:
    """The token ids of a store with the special tokens and landmarks that positions are chosen by."""
    flat = store.index["offsets"].to_pylist()
    return Tokenized(
        store.index["tokens"].to_pylist(),
        [list(zip(row[::2], row[1::2], strict=False)) for row in flat],
        store.index["special"].to_pylist(),
        store.index["text"].to_pylist(),
        landmarks={name: store.index[f"landmark:{name}"].to_pylist() for name in store.landmarks},
    )


def same_tokens_or_refuse(store: Store, tokenized: Tokenized) -> None:
    """TransectError unless these are the token ids that the store holds."""
    if tokens_hash(tokenized) != store.manifest["tokens_hash"]:
        raise TransectError(
            f"{store.path}: its texts do not give its tokens with this tokenizer.",
            "Use the tokenizer that it was captured with, or capture the texts again with this one.",
        )


def has_model(store: Store) -> bool:
    """Whether there is a model of texts behind the points of a store."""
    return store.manifest["model"]["kind"] not in (ARRAYS, IMAGES)


def model_or_refuse(store: Store, what: str) -> None:
    """TransectError where a store was made from arrays, and `what` needs the model behind the points."""
    if store.manifest["model"]["kind"] == IMAGES:
        raise TransectError(f"{store.path} holds images, no texts: {what} needs texts.", "Leave it out.")
    if store.manifest["model"]["kind"] == ARRAYS:
        raise TransectError(
            f"{store.path} was made from arrays, without a model: {what} needs one.",
            "Leave it out, or capture with the model: transect capture MODEL TEXTS --out DIR.",
        )


def reopen(store: Store, *, random: bool = False, seed: int | None = None) -> "Model":
    """Open the model of a store as it was opened then: dtype, revision, quantisation, tokenizer and seed.

    Args:
        random: its architecture with random weights instead.
        seed: of the random weights; that of the store unless given.
    """
    from transect.models.models import open_model

    model_or_refuse(store, "another capture with random weights" if random else "another capture")
    record, before = store.manifest["model"], store.manifest.get("opening")
    source = record["fingerprint"].get("source") or {}
    opening: dict[str, Any] = {key: before.get(key) for key in REOPENED} if isinstance(before, dict) else {}
    opening |= {"spec": record["spec"], "dtype": store.manifest["dtype"]["compute"]}
    opening["seed"] = int(source.get("seed", 0)) if seed is None else seed
    if isinstance(commit := source.get("revision"), str):
        opening["revision"] = commit
    if random:
        opening |= {
            "spec": f"random:{record['spec'].removeprefix('random:')}",
            "quantize": None,
            "device_map": None,
        }
    return open_model(**opening)


def in_dtype_of(store: Store, model: "Model") -> "Model":
    """The model, opened again where its weights are not in the dtype that the store was computed in."""
    from transect.models.models import open_model

    wanted = store.manifest["dtype"]["compute"]
    if str(model.dtype).removeprefix("torch.") == wanted:
        return model
    if not model.opening:
        raise TransectError(
            f"{model.name} has dtype {model.dtype}, {store.path} was computed in {wanted}.",
            f"Pass the model in {wanted}.",
        )
    reopened = open_model(**{**model.opening, "dtype": wanted})
    reopened.name = model.name
    return reopened
