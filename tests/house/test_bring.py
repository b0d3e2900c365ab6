"""Every block of docs/bring.md runs as it is written."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import transect as ts
from tiny import make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "bring.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page names."""
    from PIL import Image
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    rng = np.random.default_rng(0)
    save_tiny(tmp_path / "model", "llama")
    save_tiny(tmp_path / "other", "gpt2", bos=True)
    lines = [f'{{"text": "{text}"}}' for text in make_texts(20).texts]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    mask = np.ones((12, 6), bool)
    np.savez(tmp_path / "acts.npz", attention_mask=mask, **{"resid.0": rng.standard_normal((12, 6, 4), "f4")})
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    ViTModel(ViTConfig(**small, image_size=16, patch_size=8)).save_pretrained(tmp_path / "vision")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vision")
    (tmp_path / "pictures").mkdir()
    for k in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / f"pictures/{k}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names() -> dict[str, Any]:
    """What the page's Python takes as given."""
    from transformers import TrainingArguments

    rng = np.random.default_rng(0)
    first = [rng.standard_normal((6, 8)) for _ in range(12)]
    ids = torch.randint(3, 290, (8, 8), generator=torch.Generator().manual_seed(0))
    args = TrainingArguments(
        "hf", max_steps=2, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True
    )
    return {
        "ts": ts,
        "first": first,
        "second": [X + rng.standard_normal(X.shape) for X in first],
        "texts": make_texts(12),
        "model": tiny_model("llama"),
        "tokenizer": tiny_tokenizer(),
        "args": args,
        "data": [{"input_ids": row, "labels": row} for row in ids],
    }


def test_every_block_of_the_page_runs(folder: Path) -> None:
    given = names()
    for kind, block in re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        if kind == "python":
            exec(compile(block, str(PAGE), "exec"), given)
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line)
            assert words[0] == "transect"
            done = CliRunner().invoke(cli, words[1:])
            assert done.exit_code == 0, f"{line}: {done.output} {done.exception}"
    assert (folder / "results" / "across" / "calibrated.parquet").is_file()
