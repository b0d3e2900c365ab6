"""Stores on a Hugging Face hub: one commit with all files and a card, and `open_store("hf://OWNER/NAME")`.

The hub is the one that HF_ENDPOINT names, the token HF_TOKEN or that of `hf auth login`.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from transect.errors import TransectError
from transect.files import is_remote
from transect.store.store import Store

PROTOCOL = "hf://"
#: OWNER/NAME, with or without datasets/ in front and @REVISION behind.
REPO = re.compile(r"(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?/?")
FILES = ("manifest.json", "plan.json", "texts.parquet")


def push(
    store: Store,
    repo: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "A store of activations",
) -> str:
    """Upload a finished store in one commit; returns its address. Raises: TransectError."""
    from huggingface_hub import CommitOperationAdd, HfApi

    name, _ = _parsed(repo)
    if store.unfinished or is_remote(store.path):
        why = "is not captured to its end" if store.unfinished else "does not lie on this machine"
        raise TransectError(f"{store.path} {why}.", "Push a finished store from a folder.")
    api = HfApi(endpoint=_endpoint(), token=token)
    shards = [p for k in range(len(store.plan)) for p in (store.shard(k), store.receipt(k))]
    files = {name: store.path / name for name in FILES} | {f"shards/{p.name}": p for p in shards}
    adds = [CommitOperationAdd(at, str(path)) for at, path in files.items()]
    adds.append(CommitOperationAdd("README.md", card(store, name).encode()))
    with _hub(name, "written"):
        api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.create_commit(name, adds, commit_message=message, repo_type="dataset", revision=revision)
    return f"{api.endpoint}/datasets/{name}"


def fetched(address: str) -> Path:
    """The folder in the cache that holds the store at hf://OWNER/NAME. Raises: TransectError."""
    from huggingface_hub import snapshot_download

    name, revision = _parsed(address)
    with _hub(name, "read"):
        return Path(
            snapshot_download(
                name, repo_type="dataset", revision=revision, endpoint=_endpoint(),
                allow_patterns=[*FILES, "shards/*"],
            )
        )  # fmt: skip


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _parsed(address: str) -> tuple[str, str | None]:
    match = REPO.fullmatch(address.removeprefix(PROTOCOL))
    if not match:
        raise TransectError(f"{address!r} names no store on a hub.", "Write hf://OWNER/NAME or OWNER/NAME.")
    return match["repo"], match["revision"]


@contextlib.contextmanager
def _hub(name: str, done: str) -> Iterator[None]:
    """Turn what a hub answers into a TransectError."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise TransectError(
            f"{name} is not there, or you may not see it.", "Check the name; set HF_TOKEN for a private one."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        rights = "You have no right to: set HF_TOKEN to a token that may." if status in (401, 403) else ""
        raise TransectError(f"{name} could not be {done} (HTTP {status}).", rights or "Try again.") from error
    except Exception as error:  # what the client's own client raises where nothing answers is no list
        raise TransectError(
            f"{name} could not be {done}: no hub answers ({error!s:.80}).", "Set HF_ENDPOINT, or go online."
        ) from error


def card(store: Store, repo: str) -> str:
    """The card of a store: what it holds, by its manifest, and how to open it."""
    m = store.manifest
    weights = str(m["model"]["fingerprint"].get("weights", ""))[:16]
    facts = {
        "model": f"{m['model']['name']} (`{m['model']['spec']}`, weights `{weights}`)",
        "texts": f"{m['texts']['name']} (`{m['texts']['spec']}`), {len(store)} {store.unit}s",
        "points": f"{int(store.start[-1]):,}, {m['dtype']['store']}",
        "sites": f"{len(store.sites)}, from `{store.sites[0]}` to `{store.sites[-1]}`",
        "positions": str(m["positions"]) + (", one mean a text" if m["pool"] else ""),
        "labels": ", ".join(store.labels) or "none",
        "fingerprint": f"`{store.fingerprint}`",
        "made with": ", ".join(f"{k} {v}" for k, v in m.get("origin", {}).items() if k != "device"),
    }
    head = {"tags": ["transect", "activations"], "pretty_name": f"Activations of {m['model']['name']}"}
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    table = "\n".join(f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in facts.items())
    notes = "".join(f"\n- {note}" for note in m.get("notes", []))
    return (
        f"---\n{front}\n---\n\n# Activations of {m['model']['name']}\n\n"
        f"| | |\n|---|---|\n{table}\n{notes}\n\n"
        f'```python\nimport transect as ts\n\nstore = ts.open_store("hf://{repo}")\n'
        f'X = store.points("{store.sites[-1]}")\n```\n'
    )
