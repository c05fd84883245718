"""Builds TensorRT engines, and says beforehand what a build leaves open.

Building has never run here. Every name that is used of TensorRT was checked against its Python bindings 10.3.0,
10.13.3 and 11.4.0, loaded without the libraries behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sanderling.engine import Build, Span
from sanderling.errors import UnsupportedError


@dataclass(frozen=True)
class InputFact:
    """What a profile has to say about one input of a network.

    Attributes:
        name: of the input.
        lengths: of its axes; -1 for one known only at run time.
        decides_shapes: whether its values decide shapes, so that the profile needs a range of them.
    """

    name: str
    lengths: tuple[int, ...]
    decides_shapes: bool


@dataclass(frozen=True)
class Steps:
    """A build in TensorRT's words.

    Attributes:
        on: names of `BuilderFlag`s to set.
        off: names of `BuilderFlag`s to clear.
        workspace_bytes: most memory that one layer may use while it runs.
        effort: `builder_optimization_level`.
        dla_core: number of the deep learning accelerator to run on; None for the GPU.
    """

    on: tuple[str, ...]
    off: tuple[str, ...]
    workspace_bytes: int
    effort: int
    dla_core: int | None


def steps(build: Build, version: tuple[int, int], quantized: bool) -> Steps:
    """Return what to tell a builder.

    Args:
        build: what is wanted.
        version: of TensorRT.
        quantized: whether the graph quantizes.

    Raises:
        UnsupportedError: this TensorRT cannot build so.
    """
    on = []
    if version < (11, 0):  # from 11 on the graph's own formats decide, and these flags are gone
        on += ["FP16"] if build.precision == "float16" else []
        on += ["INT8"] if quantized else []
    elif build.precision == "float16":
        raise UnsupportedError(
            f"TensorRT {version[0]}.{version[1]} takes the precision from the graph; compile the model in float16, "
            "or build with precision float32"
        )
    # On by default, TF32 rounds float32 to 10 bits before it multiplies: outputs would move by about 0.1 %.
    return Steps(tuple(on), ("TF32",), build.workspace_mb << 20, build.effort, build.dla_core)


def gaps(inputs: Iterable[InputFact], build: Build, settings: Sequence[Mapping[str, int]] = ()) -> tuple[str, ...]:
    """Return what a build's profile leaves open or gets wrong, one sentence each; empty when it is complete.

    Args:
        inputs: of the network.
        build: with a range for every free axis and every input that decides shapes.
        settings: lever settings that must be covered, such as those of a ladder's rungs.
    """
    known = {fact.name: fact for fact in inputs}
    found = [f"input {name!r} is not in the graph; it has {', '.join(known)}" for name in _strangers(known, build)]
    for fact in known.values():
        found += _shape_gaps(fact, build.shapes.get(fact.name))
        found += _value_gaps(fact, build.values.get(fact.name))
    for setting in settings:
        for lever, value in setting.items():
            span = build.values.get(lever)
            if span is not None and not span.least[0] <= value <= span.most[0]:
                found.append(f"{lever}={value} is outside {span.least[0]} to {span.most[0]}")
    return tuple(found)


def build_engine(library: Any, graph: bytes, build: Build) -> bytes:
    """Return a serialised engine for a graph. Takes seconds to minutes.

    Args:
        library: the module tensorrt.
        graph: a serialised ONNX model, as the target lowered it.
        build: how.

    Raises:
        UnsupportedError: the parser or the builder refuses; the message has what it said.
    """
    logger = library.Logger(library.Logger.ERROR)
    builder = library.Builder(logger)
    network = builder.create_network(0)
    parser = library.OnnxParser(network, logger)
    if not parser.parse(graph):
        said = "; ".join(parser.get_error(number).desc() for number in range(parser.num_errors))
        raise UnsupportedError(f"tensorrt cannot read this graph: {said}")
    tensors = [network.get_input(number) for number in range(network.num_inputs)]
    facts = [InputFact(tensor.name, tuple(tensor.shape), tensor.is_shape_tensor) for tensor in tensors]
    open_points = gaps(facts, build)
    if open_points:
        raise UnsupportedError(f"the optimisation profile is not complete: {'; '.join(open_points)}")
    kinds = {network.get_layer(number).type for number in range(network.num_layers)}
    config = _config(library, builder, steps(build, version_of(library), library.LayerType.QUANTIZE in kinds))
    if any(-1 in fact.lengths or fact.decides_shapes for fact in facts):
        config.add_optimization_profile(_profile(builder, facts, build))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedError("tensorrt cannot build this graph; its reasons are on the error output")
    return bytes(engine)


def version_of(library: Any) -> tuple[int, int]:
    """Return the first two numbers of TensorRT's version."""
    major, minor = library.__version__.split(".")[:2]
    return int(major), int(minor)


def _config(library: Any, builder: Any, told: Steps) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, told.workspace_bytes)
    config.builder_optimization_level = told.effort
    for name in told.on:
        config.set_flag(getattr(library.BuilderFlag, name))
    for name in told.off:
        config.clear_flag(getattr(library.BuilderFlag, name))
    if told.dla_core is not None:
        # GPU_FALLBACK stays off: a layer that the accelerator cannot run is an error.
        config.default_device_type = library.DeviceType.DLA
        config.DLA_core = told.dla_core
    return config


def _profile(builder: Any, facts: Sequence[InputFact], build: Build) -> Any:
    profile = builder.create_optimization_profile()
    for fact in facts:
        if -1 in fact.lengths:
            span = build.shapes[fact.name]
            profile.set_shape(fact.name, span.least, span.usual, span.most)
        if fact.decides_shapes:
            span = build.values[fact.name]
            profile.set_shape_input(fact.name, span.least, span.usual, span.most)
    return profile


def _strangers(known: Mapping[str, InputFact], build: Build) -> list[str]:
    return [name for name in (*build.shapes, *build.values) if name not in known]


def _shape_gaps(fact: InputFact, span: Span | None) -> list[str]:
    if span is None:
        free = [str(axis) for axis, length in enumerate(fact.lengths) if length == -1]
        return [f"input {fact.name!r} has no range for axis {', '.join(free)}"] if free else []
    if len(span.least) != len(fact.lengths):
        return [f"input {fact.name!r} has {len(fact.lengths)} axes, and its range {len(span.least)}"]
    pairs = zip(fact.lengths, span.least, span.most, strict=True)
    wrong = [
        axis for axis, (length, least, most) in enumerate(pairs) if length != -1 and (least, most) != (length,) * 2
    ]
    return [
        f"axis {axis} of input {fact.name!r} is always {fact.lengths[axis]}; its range says otherwise" for axis in wrong
    ]


def _value_gaps(fact: InputFact, span: Span | None) -> list[str]:
    if fact.decides_shapes and span is None:
        return [f"input {fact.name!r} decides shapes and has no range of values"]
    if span is not None and not fact.decides_shapes:
        return [f"input {fact.name!r} decides no shapes, so a range of values changes nothing; leave it out"]
    return []
