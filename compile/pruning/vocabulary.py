"""Embedding rows that no text uses are taken out, and the tokenizer in the bundle is changed to the ids that are left.

Texts that use only kept tokens give the same answers as before. Other texts are split into kept pieces where the
tokenizer can do that, and become unknown tokens where it cannot.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Build, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.errors import RecipeError
from sanderling.spec import TextInput
from sanderling.text import Tokenizer

CUTTABLE = ("WordLevel", "WordPiece", "Unigram")
"""Tokenizers whose tokens do not depend on each other. A BPE builds tokens by merging others, which must then stay."""


@dataclass(frozen=True)
class SmallerVocabulary:
    """A model after rows of its token embedding were taken out.

    Attributes:
        adapted: the model, with its tokenizer changed.
        new_ids: old token id -> new token id, for the tokens that are left.
    """

    adapted: Adapted
    new_ids: dict[int, int]


@dataclass(frozen=True)
class FewerRows:
    """Builds a part with some rows of one embedding only.

    Attributes:
        original: builds the part whole.
        path: of the embedding.
        rows: that stay, in their new order.
    """

    original: Build
    path: str
    rows: tuple[int, ...]

    def __call__(self, reduce_at: ReduceAt | None) -> nn.Module:
        """Return a copy with the smaller embedding; the whole one is left as it is."""
        module = copy.deepcopy(self.original(reduce_at))
        embedding = module.get_submodule(self.path)
        assert isinstance(embedding, nn.Embedding)
        old = embedding.weight
        weight = old.detach()[torch.tensor(self.rows, device=old.device)]
        embedding.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
        embedding.num_embeddings = len(self.rows)
        return module


def prune_vocabulary(adapted: Adapted, input_name: str, texts: Sequence[str]) -> SmallerVocabulary:
    """Return the model without the embedding rows that these texts do not use.

    Ids that code may compare with stay as they are: padding, unknown and special tokens. So every id below the highest
    of them stays too.

    Args:
        adapted: the split model.
        input_name: of the text input.
        texts: all that the device will be asked, or enough that every token of theirs occurs.

    Raises:
        RecipeError: no such text input, no texts, a tokenizer or embedding that cannot be cut, or nothing to remove.
        InputError: a text that the model does not take.
    """
    spec = _text_input(adapted, input_name)
    if not texts:
        raise RecipeError(f"no texts are given for input {input_name!r}; give those that the device will be asked")
    described = json.loads(adapted.files[spec.tokenizer])
    unknown = _check_tokenizer(described)
    readers = {part.component: path for part in adapted.parts if (path := _embedding(adapted, part, spec)) is not None}
    if not readers:
        raise RecipeError(f"no component that reads {spec.tensor!r} has an nn.Embedding with a row for every token")
    used = {int(token) for text in texts for token in Tokenizer(adapted.files[spec.tokenizer]).encode(text, spec)[0][0]}
    fixed = max(spec.pad_id, unknown, *_special_ids(described))
    kept = sorted({*range(fixed + 1), *used})
    new_ids = {old: new for new, old in enumerate(kept)}
    _check_gain(described, kept, fixed)
    files = {**adapted.files, spec.tokenizer: _cut_tokenizer(described, new_ids)}
    parts = tuple(_smaller(adapted, part, spec, readers, new_ids, unknown) for part in adapted.parts)
    source = hashlib.sha256(repr([adapted.source, input_name, kept]).encode()).hexdigest()
    return SmallerVocabulary(replace(adapted, parts=parts, files=files, source=source), new_ids)


def _text_input(adapted: Adapted, name: str) -> TextInput:
    spec = next((spec for spec in adapted.spec.inputs if spec.name == name and isinstance(spec, TextInput)), None)
    if spec is None:
        here = [spec.name for spec in adapted.spec.inputs if isinstance(spec, TextInput)]
        raise RecipeError(f"the model has no text input {name!r}; it has {', '.join(here) or 'none'}")
    assert isinstance(spec, TextInput)
    others = [o.name for o in adapted.spec.inputs if isinstance(o, TextInput) and o.tokenizer == spec.tokenizer]
    if len(others) > 1:
        raise RecipeError(f"inputs {', '.join(others)} share tokenizer {spec.tokenizer!r}, so it cannot be changed")
    return spec


def _check_tokenizer(described: dict[str, Any]) -> int:
    """Return the id of the unknown token of a tokenizer that can be cut."""
    model = described["model"]
    kind = model.get("type")
    if kind not in CUTTABLE:
        raise RecipeError(
            f"the tokenizer is of type {kind}, whose tokens are built from others; rows can be taken out for "
            f"{', '.join(CUTTABLE)}"
        )
    unknown = model.get("unk_id") if kind == "Unigram" else model["vocab"].get(model.get("unk_token"))
    if unknown is None:
        raise RecipeError("the tokenizer has no unknown token, so a word that is taken out would have no id")
    return int(unknown)


def _special_ids(described: dict[str, Any]) -> Iterator[int]:
    """Yield the ids of added and special tokens, and of single bytes that stand in for unknown letters."""
    yield from (int(token["id"]) for token in described.get("added_tokens") or ())
    specials = (described.get("post_processor") or {}).get("special_tokens") or {}
    if isinstance(specials, dict):
        yield from (int(number) for token in specials.values() for number in token["ids"])
    for name in ("sep", "cls"):  # the form of BertProcessing: [token, id]
        pair = (described.get("post_processor") or {}).get(name)
        if pair:
            yield int(pair[1])
    if described["model"].get("byte_fallback"):
        yield from (place for place, token in _tokens(described) if token.startswith("<0x"))


def _tokens(described: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield id and token of the tokenizer's own vocabulary."""
    vocabulary = described["model"]["vocab"]
    if isinstance(vocabulary, dict):
        yield from ((int(number), token) for token, number in vocabulary.items())
    else:
        yield from ((number, token) for number, (token, _) in enumerate(vocabulary))


def _check_gain(described: dict[str, Any], kept: Sequence[int], fixed: int) -> None:
    total = sum(1 for _ in _tokens(described))
    if len(kept) >= total:
        raise RecipeError(
            f"nothing can be taken out of {total} tokens: the texts use {len([k for k in kept if k > fixed])} beyond "
            f"id {fixed}, the highest special one, and ids up to it have to stay"
        )


def _cut_tokenizer(described: dict[str, Any], new_ids: dict[int, int]) -> bytes:
    cut = copy.deepcopy(described)
    vocabulary = cut["model"]["vocab"]
    if isinstance(vocabulary, dict):
        kept: Any = {token: new_ids[number] for token, number in vocabulary.items() if number in new_ids}
    else:
        kept = [entry for number, entry in enumerate(vocabulary) if number in new_ids]
    cut["model"]["vocab"] = kept
    return json.dumps(cut, sort_keys=True).encode()


def _embedding(adapted: Adapted, part: Part, spec: TextInput) -> str | None:
    """Return the path of the token embedding in a part that reads the ids; None where there is none."""
    reads = spec.tensor in [tensor.name for tensor in adapted.spec.component(part.component).inputs]
    if not reads or part.build is None:
        return None
    module = part.build(None)
    least = Tokenizer(adapted.files[spec.tokenizer]).highest_id + 1
    found = [path for path, m in module.named_modules() if type(m) is nn.Embedding and m.num_embeddings >= least]
    if len(found) > 1:
        raise RecipeError(f"component {part.component!r} has {len(found)} embeddings of that size: {', '.join(found)}")
    if found and _uses(module, module.get_parameter(f"{found[0]}.weight")) > 1:
        raise RecipeError(
            f"embedding {found[0]!r} of component {part.component!r} shares its weight with another layer, which needs "
            "every row"
        )
    return found[0] if found else None


def _uses(module: nn.Module, wanted: nn.Parameter) -> int:
    return sum(parameter is wanted for _, parameter in module.named_parameters(remove_duplicate=False))


def _smaller(
    adapted: Adapted, part: Part, spec: TextInput, readers: dict[str, str], new_ids: dict[int, int], unknown: int
) -> Part:
    """Return a part that takes the new ids."""
    names = [tensor.name for tensor in adapted.spec.component(part.component).inputs]
    example = tuple(
        _mapped(tensor, new_ids, unknown) if name == spec.tensor else tensor
        for name, tensor in zip(names, part.example, strict=True)
    )
    build = part.build
    if part.component in readers and build is not None:
        build = FewerRows(build, readers[part.component], tuple(new_ids))
    return replace(part, example=example, build=build)


def _mapped(ids: Tensor, new_ids: dict[int, int], unknown: int) -> Tensor:
    numbers: Iterable[int] = ids.flatten().tolist()
    return torch.tensor([new_ids.get(number, unknown) for number in numbers], dtype=ids.dtype).reshape(ids.shape)
