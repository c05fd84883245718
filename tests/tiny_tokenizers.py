"""Tiny tokenizers of the `tokenizers` library, trained on the spot."""

from __future__ import annotations

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "red",
    "car",
    "and",
    "two",
    "small",
    "blue",
    "cubes",
    "left",
    "right",
    "behind",
    "what",
    "colour",
    "is",
    "it",
]


def bpe() -> tokenizers.Tokenizer:
    """Return a byte-level BPE tokenizer in CLIP's form: lower case, end-of-word suffix, start and end tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|end|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<|start|>", "<|end|>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(WORDS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|start|> $A <|end|>", special_tokens=[("<|start|>", 0), ("<|end|>", 1)]
    )
    return tokenizer


def words() -> tokenizers.Tokenizer:
    """Return a word-level tokenizer without special tokens around a text."""
    vocabulary = {"<pad>": 0, "<unk>": 1, **{word: place + 2 for place, word in enumerate(WORDS)}}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def data(tokenizer: tokenizers.Tokenizer) -> bytes:
    """Return tokenizer.json."""
    return str(tokenizer.to_str()).encode()
