"""Keeps OpenVINO's CPU plugin from overwriting the queries of an attention whose tokens are as many as its heads.

The plugin turns `MatMul -> Softmax -> MatMul` of rank 3 or 4 into one kernel and draws the transposes that swap tokens
and heads around it into the kernel. When the shapes are fixed and queries and result have equal shapes, the result is
written over the queries while they are still read (2026.4, float32, on AVX2 and AVX-512). That is right only while both
are laid out alike. With tokens == heads, [batch, heads, tokens, d] and [batch, tokens, heads, d] have equal shapes and
different layouts, and the attention is wrong by as much as its own size. It happens

    Linear(C, 3C) -> reshape(batch, tokens, 3, heads, d) -> permute -> unbind   as in most vision transformers
    LayerNorm or rotary positions on the queries                                as in most language models

and does not with another number of tokens or with an axis known only at run time. The kernel takes no transposes of
other ranks, so a transpose that swaps two axes of equal length is done with axes of length one at the end. What the
graph computes stays the same to the bit, and the arrays are small where tokens are as few as heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sanderling.targets.rules.graph_facts import inferred

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_SWAPS = ((1, 0, 2), (0, 2, 1, 3))
"""The orders that the kernel draws in."""

_RANK = 5
"""The smallest rank that the kernel does not take."""


def hide_square_transposes(model: ModelProto) -> tuple[ModelProto, int]:
    """Return the model with every transpose that swaps tokens with as many heads out of the kernel's reach.

    Args:
        model: the graph; left as it is.

    Returns:
        A model that computes the same to the bit, and the number of transposes that were hidden; the model itself
        when there are none.
    """
    import onnx

    lengths = _static_lengths(model)
    count = sum(_is_square_swap(node, lengths) for node in model.graph.node)
    if count == 0:
        return model, 0
    hidden = onnx.ModelProto()
    hidden.CopyFrom(model)
    del hidden.graph.node[:]
    for node in model.graph.node:
        hidden.graph.node.extend(_lifted(node) if _is_square_swap(node, lengths) else [node])
    return hidden, count


def _static_lengths(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Return value name -> lengths, with 0 for an axis known only at run time."""
    graph = inferred(model)
    return {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _order(node: NodeProto) -> tuple[int, ...]:
    return tuple(next((attribute.ints for attribute in node.attribute if attribute.name == "perm"), ()))


def _is_square_swap(node: NodeProto, lengths: dict[str, tuple[int, ...]]) -> bool:
    if node.op_type != "Transpose" or _order(node) not in _SWAPS:
        return False
    shape = lengths.get(node.input[0], ())
    return len(shape) == len(_order(node)) and shape[-3] == shape[-2] > 0


def _lifted(node: NodeProto) -> list[NodeProto]:
    """Return nodes that do the same through rank 5; a 0 in a reshape keeps the length, whatever it is."""
    from onnx import TensorProto, helper

    source, result, order = node.input[0], node.output[0], _order(node)
    rank = len(order)
    ones = [1] * (_RANK - rank)
    lift, lower, wide, swapped = (f"{result}/{part}" for part in ("lift", "lower", "wide", "swapped"))
    to_wide = helper.make_tensor(lift, TensorProto.INT64, [_RANK], [0] * rank + ones)
    to_narrow = helper.make_tensor(lower, TensorProto.INT64, [rank], [0] * rank)
    return [
        helper.make_node("Constant", [], [lift], name=lift, value=to_wide),
        helper.make_node("Constant", [], [lower], name=lower, value=to_narrow),
        helper.make_node("Reshape", [source, lift], [wide], name=wide),
        helper.make_node("Transpose", [wide], [swapped], name=node.name, perm=[*order, *range(rank, _RANK)]),
        helper.make_node("Reshape", [swapped, lower], [result], name=f"{result}/narrow"),
    ]
