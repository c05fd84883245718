"""Texts to token ids; Hugging Face's fast tokenizers over the same tokenizer.json are the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
from tiny_tokenizers import WORDS, bpe, data, words
from transformers import PreTrainedTokenizerFast

from sanderling.errors import InputError
from sanderling.spec import TextInput
from sanderling.text import Tokenizer

MAKERS = {"bpe": bpe, "words": words}
TEXTS = ["a red car", "A photo of the two small BLUE cubes behind it", "zebra café 7!", "what   colour is it"]


def spec(max_tokens: int = 40, pad_to: Literal["longest", "max_tokens"] = "longest", pad_id: int = 1) -> TextInput:
    """Return how the texts are padded."""
    return TextInput("question", "input_ids", "attention_mask", "tokenizer.json", max_tokens, pad_id, pad_to)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("pad_to", ["longest", "max_tokens"])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]], ids=["four", "one"])
def test_ids_and_mask_equal_hugging_face(
    maker: str, pad_to: Literal["longest", "max_tokens"], texts: list[str]
) -> None:
    made = MAKERS[maker]()
    pad = made.id_to_token(1)
    oracle = PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad, padding_side="right")
    wanted = oracle(texts, padding="longest" if pad_to == "longest" else "max_length", max_length=40)
    ids, mask = Tokenizer(data(made)).encode(texts, spec(pad_to=pad_to))
    assert ids.dtype == mask.dtype == np.int64
    np.testing.assert_array_equal(ids, wanted["input_ids"])
    np.testing.assert_array_equal(mask, wanted["attention_mask"])


def test_one_text_is_a_batch_of_one() -> None:
    tokenizer = Tokenizer(data(bpe()))
    np.testing.assert_array_equal(tokenizer.encode(TEXTS[0], spec())[0], tokenizer.encode([TEXTS[0]], spec())[0])


def test_pad_id_fills_short_rows() -> None:
    ids, mask = Tokenizer(data(words())).encode(["a", "a photo of"], spec(pad_id=9))
    assert ids.tolist() == [[2, 9, 9], [2, 3, 4]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_truncation_and_padding_of_the_file_are_cleared() -> None:
    made = words()
    made.enable_truncation(2)
    made.enable_padding(length=30, pad_id=7)
    tokenizer = Tokenizer(data(made))
    assert tokenizer.encode("a photo of the car", spec())[0].shape == (1, 5)
    with pytest.raises(InputError, match="has 5 tokens, 4 fit"):
        tokenizer.encode("a photo of the car", spec(max_tokens=4))


def test_a_text_of_exactly_the_longest_length_fits() -> None:
    assert Tokenizer(data(words())).encode("a photo of", spec(max_tokens=3))[0].shape == (1, 3)


def test_tokens_and_ids_can_be_looked_up() -> None:
    tokenizer = Tokenizer(data(words()))
    assert (tokenizer.id_of("<pad>"), tokenizer.id_of("zebra")) == (0, None)
    assert tokenizer.highest_id == len(WORDS) + 1


BAD_TEXTS: dict[str, tuple[Any, str]] = {
    "no text": ([], "empty list, expected at least 1 text"),
    "bytes": (b"a car", "is bytes, expected a text"),
    "number": (7, "is int, expected a text"),
    "nothing": (None, "is NoneType, expected"),
    "number in a list": (["a car", 7], "item 1 is int 7, expected a text"),
    "no tokens": (["a car", "  "], "text 1, '  ', gives 0 tokens"),
    "too long": (["a", "a photo of the red car and two"], "text 1, .* has 8 tokens, 6 fit; shorten it by 2 tokens"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_texts_are_refused(case: str) -> None:
    texts, message = BAD_TEXTS[case]
    with pytest.raises(InputError, match=f"'question'.*{message}"):
        Tokenizer(data(words())).encode(texts, spec(max_tokens=6))


@pytest.mark.parametrize("content", [b"", b"{", b"{}", json.dumps({"model": {"type": "Nothing"}}).encode()])
def test_bytes_that_are_no_tokenizer_are_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="okenizer"):
        Tokenizer(content)


def test_without_the_library_the_message_says_how_to_get_it() -> None:
    script = """
import sys
sys.modules["tokenizers"] = None
from sanderling.errors import MissingExtraError
from sanderling.text import Tokenizer
try:
    Tokenizer(b"{}")
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "turning texts into tokens needs tokenizers: pip install 'sanderling[text]'"
