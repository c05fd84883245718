"""Runs a graph and hands out tensors from inside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import ModelProto, ValueInfoProto

from sanderling.compile.number_format import Feeds
from sanderling.engine import AnyArray, OpenOptions, opener


def run_inside(
    model: ModelProto, tensors: Sequence[str], feeds: Feeds, target: str = "onnxruntime"
) -> Iterator[dict[str, AnyArray]]:
    """Yield, per feed, the named tensors.

    Args:
        model: the graph; left as it is.
        tensors: names of the graph's inputs or of tensors its nodes write.
        feeds: inputs of the graph.
        target: name of the target to run it on.

    Raises:
        UnsupportedError: the target cannot run the graph.
    """
    given = {value.name for value in model.graph.input}
    asked = [name for name in dict.fromkeys(tensors) if name not in given]
    engine = opener(target).open(_with_outputs(model, asked), OpenOptions())
    for feed in feeds:
        results = engine.run(feed)
        yield {name: np.asarray(feed[name]) if name in given else results[name] for name in tensors}


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> bytes:
    opened = ModelProto()
    opened.CopyFrom(model)
    there = {value.name for value in opened.graph.output}
    opened.graph.output.extend(ValueInfoProto(name=name) for name in tensors if name not in there)
    serialised: bytes = opened.SerializeToString()
    return serialised
