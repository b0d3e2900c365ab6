"""How a model is opened: declared once, for the function, the commands and their help."""

from typing import Annotated, Any, TypedDict

from transect.work.options import Option, Values


class OpeningOptions(TypedDict, total=False):
    """How a model is opened."""

    dtype: Annotated[
        Any, Option(None, "float32 (the default), bfloat16, float16, or auto for the checkpoint's own.")
    ]
    device: Annotated[
        Any, Option(None, "cpu, cuda, mps, …; by default CUDA where there is one, else the CPU.")
    ]
    quantize: Annotated[
        str | None, Option(None, "Load with bitsandbytes, on CUDA.", choices=("4bit", "8bit"))
    ]
    revision: Annotated[str | None, Option(None, "Revision on the hub.")]
    seed: Annotated[int, Option(0, "Seed of every random choice, random weights among them.", least=0)]
    trust_remote_code: Annotated[
        bool, Option(False, "Run code that comes with the model. Off unless you ask.")
    ]
    device_map: Annotated[
        Any, Option(None, "auto, balanced, …: a model larger than one device, over all of them.")
    ]
    tokenizer: Annotated[str | None, Option(None, "Folder or hub id, where the model's own has none.")]


class Opening(Values):
    """Frozen value of OpeningOptions."""

    group = OpeningOptions
