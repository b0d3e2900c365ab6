"""Images through vision towers: what is stored is what the tower computes for each image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import transect as ts
from transect.cli.main import cli
from transect.errors import TransectError

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k in range(10):
        (at / "ab"[k % 2]).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(at / "ab"[k % 2] / f"{k}.png")
    return at


def model_of(kind: str, folder: Path) -> Path:
    """A tiny random vision model with its processor, saved."""
    import transformers as t

    text = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 24}
    if kind == "vit":
        model, processor = t.ViTModel(t.ViTConfig(**SMALL)), t.ViTImageProcessorPil
    elif kind == "clip":
        config = t.CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=8)
        model, processor = t.CLIPModel(config), t.CLIPImageProcessorPil
    else:
        model, processor = t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=SMALL)), None
        processor = t.SiglipImageProcessorPil
    model.save_pretrained(folder)
    side = {"height": 16, "width": 16}
    processor(size=side, crop_size=side).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip"])
def test_points_are_what_the_tower_computes(kind: str, images: Path, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder = model_of(kind, tmp_path / "m")
    asked = ["resid", "mlp.act", "module:encoder.layers.*.self_attn.q_proj:out"]
    store = ts.capture_images(
        folder, images, tmp_path / "s", sites=asked[: 2 if kind == "vit" else 3], batch=4
    )
    model = AutoModel.from_pretrained(folder).eval()
    tower = getattr(model, "vision_model", model)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    files = sorted(images.rglob("*.png"))
    for i in (0, 7):
        with torch.inference_mode():
            pixels = processor(images=Image.open(files[i]).convert("RGB"), return_tensors="pt")[
                "pixel_values"
            ]
            hidden = tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        for k in (0, 1):
            assert np.allclose(store.sample(i, f"resid.{k}"), hidden[k][0].numpy(), atol=1e-5)
    assert store.unit == "sample"
    assert set(store.label("folder")) == {"a", "b"}
    if kind != "vit":
        assert "module:encoder.layers.1.self_attn.q_proj:out" in store.sites


def test_the_command_and_a_study_speak_of_samples(images: Path, tmp_path: Path) -> None:
    folder = model_of("vit", tmp_path / "m")
    command = ["capture", str(folder), f"images:{images}", "--out", str(tmp_path / "s"), "--name", "eyes"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    store = ts.open_store(tmp_path / "s")
    assert store.name == "eyes"
    study = ts.studies.drift(store, n=20, groups=2, workers=1)
    assert "samples" in " ".join(study.methods)
    assert "texts" not in " ".join(study.findings)
    with pytest.raises(TransectError, match="images"):
        ts.studies.drift(store, n=20, groups=2, workers=1, random_weights=True, out=tmp_path / "d")


@pytest.mark.fault(
    "bad input",
    "a folder without images, a damaged image, or a model in memory without its processor",
    "refused with the file's name; nothing is written",
)
def test_what_is_no_image_is_refused(images: Path, tmp_path: Path) -> None:
    import transformers as t

    model = t.ViTModel(t.ViTConfig(**SMALL))
    with pytest.raises(TransectError, match="holds no images"):
        ts.capture_images(model, tmp_path, tmp_path / "s")
    with pytest.raises(TransectError, match="image processor"):
        ts.capture_images(model, images, tmp_path / "s")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no image")
    with pytest.raises(TransectError, match=r"x.png cannot be read"):
        ts.capture_images(model, tmp_path / "bad", tmp_path / "s", processor=t.ViTImageProcessorPil())
    assert not (tmp_path / "s").exists()
