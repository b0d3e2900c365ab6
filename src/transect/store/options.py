"""What a capture can be asked: declared once, for the function, the command and its help."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, TypedDict

from transect.work.options import Option, Values


class CaptureOptions(TypedDict, total=False):
    """Which points a capture keeps, and how the work is cut up."""

    sites: Annotated[Sequence[str], Option(("resid",), "Families, sites, attention, module:GLOB:in or :out.")]
    layers: Annotated[Iterable[int] | None, Option(None, "Only these layers.")]
    name: Annotated[
        str | None, Option(None, "Name of this run in tables and figures; by default the model's.")
    ]
    positions: Annotated[
        str,
        Option(
            "all",
            "Tokens to keep: all, or of last, landmark:NAME+k, numbers (negative: from the end).",
        ),
    ]
    pool: Annotated[str | None, Option(None, "Keep one mean per text.", choices=("mean",))]
    position0: Annotated[bool, Option(True, "Count the first token in the pooled mean.")]
    store_dtype: Annotated[
        str | None,
        Option(
            None,
            "Stored dtype; by default the compute dtype. inf is never written.",
            choices=("float32", "bfloat16", "float16"),
        ),
    ]
    max_length: Annotated[int | None, Option(None, "Cut texts at so many tokens.", least=2)]
    shuffle_tokens: Annotated[
        int | None,
        Option(None, "Control: every text's own tokens in random order, with this seed.", least=0),
    ]
    batch_tokens: Annotated[int, Option(2048, "Padded tokens per forward pass.", least=1)]
    shard_bytes: Annotated[int, Option(512 << 20, "Size of a shard.", least=1)]
    shard: Annotated[
        tuple[int, int], Option((1, 1), "(k, n): capture every n-th shard, beginning with the k-th.")
    ]
    engine: Annotated[str, Option("local", "Worker processes here, or Ray.")]
    workers: Annotated[
        int,
        Option(1, "Worker processes that each open the model; by default this process alone.", least=1),
    ]
    gpus_per_worker: Annotated[int, Option(0, "GPUs that a Ray worker gets.", least=0)]
    progress: Annotated[Callable[[int, int], None] | None, Option(None, "Called with (done, total) rows.")]


class Asked(Values):
    """Frozen value of CaptureOptions."""

    group = CaptureOptions
