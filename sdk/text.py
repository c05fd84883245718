"""Texts to token ids, with the tokenizer that travels in the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError, MissingExtraError
from sanderling.spec import TextInput


class Tokenizer:
    """A tokenizer of the `tokenizers` library.

    Truncation and padding that tokenizer.json asks for are cleared: a text that is too long is refused, never cut,
    and padding follows the model's `TextInput`.

    Args:
        data: the bytes of tokenizer.json.

    Raises:
        MissingExtraError: the `tokenizers` library is not installed.
        ValueError: the bytes are no tokenizer.
    """

    def __init__(self, data: bytes) -> None:
        try:
            library = import_module("tokenizers")
        except ImportError as error:
            raise MissingExtraError("tokenizers", "text", "turning texts into tokens") from error
        self._tokenizer = library.Tokenizer.from_buffer(data)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def highest_id(self) -> int:
        """The highest token id it can give."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def id_of(self, token: str) -> int | None:
        """Return the id of a token, or None when it has no such token."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def encode(self, texts: str | Sequence[str], spec: TextInput) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids and mask, padded on the right.

        Args:
            texts: one text, or several as a batch.
            spec: how long and how padded.

        Returns:
            ids int64 [batch, tokens] and mask int64 [batch, tokens], 1 for a token and 0 for padding.

        Raises:
            InputError: not texts, no text, a text without tokens, or one that is too long.
        """
        batch = _batch(texts, spec)
        # One by one: handing a batch to the library's threads takes longer than encoding the few texts of a call.
        rows = [self._tokenizer.encode(text).ids for text in batch]
        for place, row in enumerate(rows):
            _check_length(spec, place, batch[place], len(row))
        tokens = spec.max_tokens if spec.pad_to == "max_tokens" else max(len(row) for row in rows)
        ids = np.full((len(rows), tokens), spec.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), tokens), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask


def _batch(texts: str | Sequence[str], spec: TextInput) -> list[str]:
    batch = [texts] if isinstance(texts, str) else texts
    if not isinstance(batch, (list, tuple)):
        raise InputError(f"input {spec.name!r} is {type(texts).__name__}, expected a text or a list of texts")
    if not batch:
        raise InputError(f"input {spec.name!r} is an empty list, expected at least 1 text")
    for place, text in enumerate(batch):
        if not isinstance(text, str):
            raise InputError(
                f"input {spec.name!r}: item {place} is {type(text).__name__} {text!r:.40}, expected a text"
            )
    return list(batch)


def _check_length(spec: TextInput, place: int, text: str, tokens: int) -> None:
    if tokens == 0:
        raise InputError(f"input {spec.name!r}: text {place}, {text!r:.40}, gives 0 tokens; pass a text with words")
    if tokens > spec.max_tokens:
        raise InputError(
            f"input {spec.name!r}: text {place}, {text!r:.40}, has {tokens} tokens, {spec.max_tokens} fit; shorten it "
            f"by {tokens - spec.max_tokens} tokens, or pass it in parts as a list of shorter texts"
        )
