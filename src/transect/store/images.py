"""Images through the vision tower of a model: a sample is an image, its points are the tower's tokens:
patches, and the class token where there is one.

Any transformers model with an image processor: ViT and its kin, or the tower of CLIP, SigLIP and models that
read images and text. Points go to files in the temporary folder first, then into the store as arrays do.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import Place, file_hash, local
from transect.models.checkpoints import check_folder, hub_options, loading
from transect.models.fingerprint import tensors_hash
from transect.models.forward import hooked
from transect.models.modules import taps_for
from transect.models.state import unchanged
from transect.store.arrays import write_samples
from transect.store.recapture import IMAGES
from transect.store.samples import Samples, samples_of
from transect.store.store import Store
from transect.texts.texts import Texts

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Where models that also read text keep the tower that sees.
TOWERS = ("vision_model", "vision_tower", "visual")


def capture_images(
    model: Any,
    folder: str | Path,
    out: Place,
    *,
    processor: Any = None,
    sites: Sequence[str] = ("resid",),
    layers: Sequence[int] | None = None,
    name: str | None = None,
    batch: int = 8,
) -> Store:
    """Run the images in a folder through a model's vision tower, and keep the points of its sites.

    Args:
        model: A folder or hub id, or a transformers model with its `processor`.
        folder: Images, in folders by class where there are classes: the label `folder`.
        out: A folder, or PROTOCOL://… that fsspec reaches.
        processor: The model's image processor; by default the one that lies beside the model.
        sites: Families, single sites, or module:GLOB:in and :out.
        layers: Only these layers.
        name: Short name of this run in tables and figures.
        batch: Images a pass.

    Raises: TransectError for a model without a tower, and for files that are no images.
    """
    texts = open_images(folder)
    spec = (
        model if isinstance(model, str | Path) else str(getattr(model.config, "name_or_path", "")) or "model"
    )
    if isinstance(model, str | Path):
        model, processor = _opened(str(model), processor)
    if processor is None:
        raise TransectError("a model in memory comes without its image processor.", "Give processor=….")
    tower = next((t for n in TOWERS if (t := getattr(model, n, None)) is not None), model).eval()
    taps = taps_for(tower, list(sites), layers)
    spool = Path(tempfile.mkdtemp(prefix="transect-"))
    try:
        points = _passes(tower, processor, taps, texts, local(str(folder)), batch, spool)
        fingerprint = {"weights": tensors_hash(tower.state_dict()), "adapter": None, "tokenizer": None}
        short = name or Path(str(spec).rstrip("/")).name
        record = {"name": short, "spec": str(spec), "kind": IMAGES, "fingerprint": fingerprint, "heads": None}
        return write_samples(points, out, short, texts, more={"unit": "sample", "model": record})
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def open_images(folder: str | Path) -> Texts:
    """The images in a folder as samples, by their paths in it; identity is their content."""
    root = local(str(folder))
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in KINDS) if root.is_dir() else []
    if not files:
        raise TransectError(f"{folder} holds no images.", f"A folder of {', '.join(KINDS)}.")
    ids = [p.relative_to(root).as_posix() for p in files]
    classes = [i.rpartition("/")[0] for i in ids]
    labels: dict[str, list[Any]] = {"sha256": [file_hash(p)[:16] for p in files]}
    if len(set(classes)) > 1:
        labels["folder"] = classes
    return Texts(ids, ids, labels=labels, name=root.name, spec=f"images:{folder}")


def _opened(spec: str, processor: Any) -> tuple[Any, Any]:
    """The whole model, and its image processor, which needs Pillow alone."""
    from transformers import AutoImageProcessor, AutoModel

    source = local(spec) if local(spec).is_dir() else spec
    if isinstance(source, Path):
        check_folder(source)
    options = hub_options(source, None, False)
    with loading(spec):
        model = AutoModel.from_pretrained(source, use_safetensors=True, **options)
        return model, processor or AutoImageProcessor.from_pretrained(source, backend="pil", **options)


def _passes(
    tower: Any, processor: Any, taps: Any, texts: Texts, root: Path, batch: int, spool: Path
) -> dict[str, Samples]:
    """The points of every site, in files that are mapped."""
    import torch

    held: dict[str, np.memmap] = {}
    for first in range(0, len(texts), batch):
        ids = texts.ids[first : first + batch]
        pixels = processor(images=[_image(root / i) for i in ids], return_tensors="pt")["pixel_values"]
        pixels = pixels.to(tower.device, tower.dtype)
        seen: dict[str, torch.Tensor] = {}
        with (
            torch.inference_mode(),
            unchanged(tower, "the model"),
            hooked(taps.values(), lambda s, v, seen=seen: seen.update({s: v.float().cpu()})),
        ):
            tower(pixel_values=pixels)
        for site in taps:
            value = seen.get(site)
            if value is None or value.ndim != 3 or len(value) != len(ids):
                shape = "did not fire" if value is None else f"has shape {list(value.shape)}"
                raise TransectError(
                    f"{site} {shape}: no [images, tokens, width].", "Leave it out with --sites."
                )
            if site not in held:
                size = (len(texts), *value.shape[1:])
                file = spool / f"{len(held)}.f32"
                held[site] = np.memmap(file, np.float32, "w+", shape=size)
            held[site][first : first + len(ids)] = value.numpy()
    return {site: samples_of(site, array, "all") for site, array in held.items()}


def _image(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise TransectError(f"{path} cannot be read as an image ({error!s:.80}).", "Leave it out.") from error
