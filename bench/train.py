"""A training step of the decoder beside a plain torch loop over the same model, and beside transformers'
Llama of its shape.

python bench/train.py [--width 128] [--layers 4]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from transect.models.checkpoints import random_model
from transect.train import pretrain as room
from transect.train.data import prepare
from transect.train.pretraining import config_of, preset
from transect.train.world import World

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "that",
    "is",
    "was",
    "for",
    "on",
    "with",
    "as",
    "his",
    "be",
    "at",
    "by",
    "had",
    "not",
    "are",
    "but",
    "from",
    "or",
    "have",
    "an",
]
STEPS = 6


def cpu(step: Callable[[int], object]) -> float:
    """CPU seconds of a step: the least of three rounds, after a warm one."""
    step(0)
    rounds = []
    for _ in range(3):
        begun = time.process_time()
        for k in range(STEPS):
            step(k)
        rounds.append((time.process_time() - begun) / STEPS)
    return min(rounds)


def plain(model: torch.nn.Module, batches: list[torch.Tensor], recipe) -> Callable[[int], object]:
    """What a script would write: forward, loss, backward, clip, AdamW."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, fused=True)

    def step(k: int) -> None:
        ids = batches[k % len(batches)]
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "t.txt"
        texts.write_text(
            "\n".join(" ".join(WORDS[(i * k) % len(WORDS)] for k in range(60)) for i in range(1, 800))
        )
        recipe = preset("demo", texts=str(texts), width=given.width, layers=given.layers).settled()
        data = prepare(recipe, Path(folder) / "data")
        config = config_of(recipe, 4096)
        run = room._Run(recipe, data, config, Path(folder), World(0, 1, "cpu"), None)
        batches = [run._ids(run._batch(k)) for k in range(4)]
        ours = cpu(run._step)
        floor = cpu(plain(random_model(config, 0, torch.float32).train(), batches, recipe))
        shape = {"vocab_size": 4096, "hidden_size": given.width, "num_hidden_layers": given.layers}
        shape |= {"num_attention_heads": recipe.heads, "intermediate_size": config.intermediate_size}
        peer = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)).train()
        llama = cpu(plain(peer, batches, recipe))
    count = recipe.batch * recipe.block
    print(f"one step, {given.layers} layers × {given.width}, {count} tokens, vocabulary 4096, one thread")
    print(f"  plain torch loop, same model    {floor:7.3f} CPU-s   1.00 x")
    print(
        f"  transect train                  {ours:7.3f} CPU-s  {ours / floor:5.2f} x  {count / ours:,.0f} "
        "tokens/s"
    )
    print(f"  plain torch loop, Llama's code  {llama:7.3f} CPU-s  {llama / floor:5.2f} x")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
