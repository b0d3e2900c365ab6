"""Tiny random models of every family we name sites for, and one byte-level tokenizer they all share: seconds,
no hub.

`tiny_model(family)` is a transformers model with its head, in eval mode, weights from the seed. Only
structure is real.
"""

import functools
from pathlib import Path

VOCAB = 300
WIDTH, LAYERS, HEADS = 32, 3, 4

_TRAIN = [
    "The month of March has thirty one days, and the birthday party was on the 3rd of January.",
    "Anna was born in the month of August; she lives in Berlin and her favourite colour is green.",
    "Numbers: 0 1 2 3 4 5 6 7 8 9 10 20 30 40 50 60 70 80 90 100. How many? Two and two are four.",
    "the of and to in a is that for it was on with as his they be at one have this from or had by",
] * 8

_ROPE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "vocab_size": VOCAB}
_FFN = {**_ROPE, "intermediate_size": 48}
_GQA = {**_FFN, "num_key_value_heads": 2}
_HEAD = {**_GQA, "head_dim": 8}
_GPT = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCAB}

#: family → (model_type of transformers, arguments of its configuration)
FAMILIES: dict[str, tuple[str, dict]] = {
    "gpt2": ("gpt2", {**_GPT, "n_positions": 128}),
    "llama": ("llama", _GQA),
    "qwen2": ("qwen2", _GQA),
    "qwen3": ("qwen3", _HEAD),
    "gemma2": ("gemma2", _HEAD),
    "gemma3": ("gemma3_text", _HEAD),
    "mistral": ("mistral", _HEAD),
    "mixtral": ("mixtral", {**_HEAD, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2moe": (
        "qwen2_moe",
        {
            **_GQA,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24,
        },
    ),
    "gptneox": ("gpt_neox", _FFN),
    "gptj": ("gptj", {**_GPT, "n_positions": 128, "rotary_dim": 4}),
    "opt": ("opt", {**_ROPE, "ffn_dim": 48, "word_embed_proj_dim": WIDTH, "max_position_embeddings": 128}),
    "bloom": ("bloom", {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCAB}),
    "falcon": ("falcon", _ROPE),
    "phi": ("phi", _FFN),
    "olmo2": ("olmo2", _GQA),
    "bert": ("bert", {**_FFN, "max_position_embeddings": 128}),
    "roberta": ("roberta", {**_FFN, "max_position_embeddings": 130}),
    "modernbert": ("modernbert", {**_FFN, "cls_token_id": 0, "sep_token_id": 1}),
    "t5": (
        "t5",
        {
            "d_model": WIDTH,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "vocab_size": VOCAB,
        },
    ),
}
ENCODERS = ("bert", "roberta", "modernbert")
ENCODER_DECODERS = ("t5",)
DECODERS = tuple(f for f in FAMILIES if f not in (*ENCODERS, *ENCODER_DECODERS))
SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


@functools.cache
def _trained() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_TRAIN, trainer)
    return made.to_str()


def tiny_tokenizer(*, bos: bool = False, wrap: bool = False, pad: bool = True, chat: bool = False):
    """A fast byte-level tokenizer of at most 300 tokens: ids 0 <s>, 1 </s>, 2 <pad>.

    `bos` puts <s> in front of each text, `wrap` <s> … </s> around it; `chat` adds a chat template that writes
    a <s>.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(_trained())
    if bos or wrap:
        form = "<s> $A </s>" if wrap else "<s> $A"
        inner.post_processor = processors.TemplateProcessing(
            single=form, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    special = {"bos_token": "<s>", "eos_token": "</s>"} | ({"pad_token": "<pad>"} if pad else {})
    made = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=128, **special)
    if chat:
        made.chat_template = "<s>{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    return made


def tiny_config(family: str, **changes):
    """The configuration of a tiny `family`; `changes` overrides its arguments."""
    from transformers import AutoConfig

    model_type, arguments = FAMILIES[family]
    return AutoConfig.for_model(model_type, **{**SPECIAL, **arguments, **changes})


def tiny_model(family: str, *, seed: int = 0, head: bool = True, **changes):
    """A tiny random model of `family` in eval mode: causal, masked or sequence-to-sequence head, or none."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    kind = AutoModelForMaskedLM if family in ENCODERS else AutoModelForCausalLM
    kind = AutoModelForSeq2SeqLM if family in ENCODER_DECODERS else kind
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return (kind if head else AutoModel).from_config(tiny_config(family, **changes)).eval()


def save_tiny(folder: Path, family: str, *, seed: int = 0, **tokenizer) -> Path:
    """A tiny model and its tokenizer as a transformers folder; returns the folder."""
    folder = Path(folder)
    tiny_model(family, seed=seed).save_pretrained(folder)
    tiny_tokenizer(**tokenizer).save_pretrained(folder)
    return folder


#: Words of texts that a tiny model can learn something from.
WORDS = [
    "the",
    "month",
    "of",
    "March",
    "has",
    "thirty",
    "one",
    "days",
    "and",
    "a",
    "birthday",
    "in",
    "Berlin",
    "number",
    "two",
    "four",
    "six",
]


#: Words of `make_texts`.
CAPTURED = [*WORDS[:13], "1", "2", "3"]


def make_texts(count: int = 9, seed: int = 0):
    """Texts of 3 to 14 words with a label k and a landmark, the same ones for the same seed."""
    import numpy as np

    import transect as ts

    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(CAPTURED, rng.integers(3, 15))) for _ in range(count)]
    spans = [(t.find(" "), t.find(" ") + 3) for t in texts]
    return ts.Texts(
        texts, [f"t{i}" for i in range(count)], labels={"k": list(range(count))}, landmarks={"gap": spans}
    )
