"""Embedding rows that no text uses go, with the tokenizer; texts of kept tokens are answered as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tokenizers
import torch
from dual_encoders import build
from tiny_tokenizers import WORDS, bpe, data, words
from tokenizers import models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from examples.scene_qa.architecture import adapt
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.flops import parameters
from sanderling.compile.pruning.vocabulary import prune_vocabulary
from sanderling.errors import InputError, RecipeError
from sanderling.spec import Component, ModelSpec, TensorSpec, TextInput
from sanderling.text import Tokenizer

OUT = TensorSpec("out", "float32", ("batch", "n", 8))
TEXTS = ["a red car", "two blue cubes"]


def pieces() -> tokenizers.Tokenizer:
    """Return a WordPiece tokenizer with [CLS] and [SEP] around a text."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=70, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(WORDS * 3, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram() -> tokenizers.Tokenizer:
    """Return a Unigram tokenizer in SentencePiece's form."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<pad>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(WORDS * 3, trainer)
    return tokenizer


class Embedded(nn.Module):
    """Token ids -> embedded tokens, int64 [batch, tokens] -> [batch, tokens, 8]."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 8)
        self.table.weight.data = torch.arange(rows * 8.0).reshape(rows, 8)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of the table."""
        out: Tensor = self.table(ids)
        return out


def adapted_text(tokenizer: tokenizers.Tokenizer, make: Callable[[int], nn.Module] = Embedded) -> Adapted:
    """Return a model of one component that reads token ids."""
    rows = tokenizer.get_vocab_size() + 2  # more rows than tokens, as checkpoints have
    spec = ModelSpec(
        "text",
        (TextInput("text", "ids", "", "tokenizer.json", 16, 0, "longest"),),
        (Component("text", (TensorSpec("ids", "int64", ("batch", "n")),), (OUT,)),),
        outputs=("out",),
    )  # fmt: skip
    example = torch.arange(rows)[None].repeat(2, 1)
    return Adapted(spec, (Part("text", lambda _: make(rows), (example,)),), "text", {"tokenizer.json": data(tokenizer)})


def ids(adapted: Adapted, text: str) -> Tensor:
    spec = next(spec for spec in adapted.spec.inputs if isinstance(spec, TextInput))
    return torch.from_numpy(Tokenizer(adapted.files[spec.tokenizer]).encode(text, spec)[0])


@pytest.mark.parametrize("tokenizer", [words, pieces, unigram])
def test_texts_of_kept_tokens_are_answered_as_before(tokenizer: Callable[[], tokenizers.Tokenizer]) -> None:
    whole = adapted_text(tokenizer())
    made = prune_vocabulary(whole, "text", TEXTS)
    small = made.adapted
    before, after = build(whole, "text"), build(small, "text")
    assert parameters(after) == 8 * len(made.new_ids) < parameters(before)
    for text in (*TEXTS, "red cubes", "a car a car"):
        old, new = ids(whole, text), ids(small, text)
        assert new.tolist() == [[made.new_ids[number] for number in old[0].tolist()]]
        assert torch.equal(after(new), before(old))
    assert parameters(before) == parameters(build(whole, "text"))
    assert small.source != whole.source
    assert small.spec is whole.spec


@pytest.mark.parametrize(("tokenizer", "behind"), [(words, 0), (pieces, 1)])
def test_words_that_were_taken_out_become_unknown(tokenizer: Callable[[], tokenizers.Tokenizer], behind: int) -> None:
    small = prune_vocabulary(adapted_text(tokenizer()), "text", TEXTS).adapted
    given = ids(small, "red photo")[0].tolist()
    assert given[len(given) - 1 - behind] == 1
    assert 1 not in given[: len(given) - 1 - behind]


def test_the_texts_turn_what_stays() -> None:
    few, more = (prune_vocabulary(adapted_text(words()), "text", given).new_ids for given in (TEXTS[:1], TEXTS))
    assert len(few) == 2 + 3
    assert len(more) == 2 + 6


def test_special_ids_stay_and_examples_follow() -> None:
    whole = adapted_text(pieces())
    made = prune_vocabulary(whole, "text", TEXTS)
    assert [made.new_ids[number] for number in range(4)] == [0, 1, 2, 3]
    example = made.adapted.parts[0].example[0]
    wanted = [made.new_ids.get(number, 1) for number in whole.parts[0].example[0][0].tolist()]
    assert example.tolist() == [wanted, wanted]
    assert example.dtype == torch.int64
    assert build(made.adapted, "text")(example).shape == (*example.shape, 8)


def test_the_scene_model_answers_the_same_with_half_its_words() -> None:
    whole = adapt()
    asked = ["what is left of the red circle", "how many circles are there"]
    made = prune_vocabulary(whole, "text", asked)
    with torch.inference_mode():
        for text in asked:
            old, new = ids(whole, text), ids(made.adapted, text)
            assert torch.equal(build(made.adapted, "text")(new), build(whole, "text")(old))
    fewer = parameters(build(whole, "text")) - parameters(build(made.adapted, "text"))
    assert fewer == 128 * (len(json.loads(whole.files["tokenizer.json"])["model"]["vocab"]) - len(made.new_ids)) > 0
    assert made.adapted.parts[0].build is whole.parts[0].build


def test_a_frozen_embedding_stays_frozen() -> None:
    def frozen(rows: int) -> nn.Module:
        return Embedded(rows).requires_grad_(False)

    small = build(prune_vocabulary(adapted_text(words(), frozen), "text", TEXTS).adapted, "text")
    assert not any(parameter.requires_grad for parameter in small.parameters())
    assert all(
        p.requires_grad
        for p in build(prune_vocabulary(adapted_text(words()), "text", TEXTS).adapted, "text").parameters()
    )


class Tied(Embedded):
    """Scores every token with the table it looked them up in."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.head = nn.Linear(8, rows, bias=False)
        self.head.weight = self.table.weight


class Two(Embedded):
    """Has a second table of the same size."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.other = nn.Embedding(rows, 8)


def without_unknown() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def special_last() -> tokenizers.Tokenizer:
    tokenizer = words()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


@pytest.mark.parametrize(
    ("adapted", "texts", "reason"),
    [
        (
            adapted_text(bpe()),
            TEXTS,
            "of type BPE, whose tokens are built from others; .* WordLevel, WordPiece, Unigram",
        ),
        (adapted_text(words()), [], "no texts are given for input 'text'"),
        (adapted_text(without_unknown()), TEXTS, "has no unknown token"),
        (adapted_text(special_last()), TEXTS, "nothing can be taken out of 20 tokens"),
        (adapted_text(words()), [" ".join(WORDS[:9]), " ".join(WORDS[9:])], "nothing can be taken out of 20 tokens"),
        (adapted_text(words(), Tied), TEXTS, "'table' of component 'text' shares its weight with another layer"),
        (adapted_text(words(), Two), TEXTS, "has 2 embeddings of that size: table, other"),
        (adapted_text(words(), lambda _: Embedded(4)), TEXTS, "no component that reads 'ids' has an nn.Embedding"),
    ],
)
def test_what_cannot_be_cut_is_refused(adapted: Adapted, texts: list[str], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        prune_vocabulary(adapted, "text", texts)


def test_inputs_that_are_no_text_of_their_own_are_refused() -> None:
    whole = adapted_text(words())
    with pytest.raises(RecipeError, match="no text input 'image'; it has text"):
        prune_vocabulary(whole, "image", TEXTS)
    text: Any = whole.spec.inputs[0]
    other = replace(text, name="title", tensor="title_ids")
    both = replace(whole, spec=replace(whole.spec, inputs=(*whole.spec.inputs, other)))
    with pytest.raises(RecipeError, match="inputs text, title share tokenizer"):
        prune_vocabulary(both, "text", TEXTS)
    with pytest.raises(InputError, match="expected a text"):
        prune_vocabulary(whole, "text", [3])  # type: ignore[list-item]
