"""Attributes and ranks that TensorRT 10 does not take, per operator. Sources as in `tensorrt_operators`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sanderling.targets.rules.graph_facts import GraphFacts, setting

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Check = Callable[["NodeProto", GraphFacts], "str | None"]

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_GATES = {"GRU": 2, "LSTM": 3, "RNN": 1}
"""Recurrent operator -> activations per direction."""


def _only(name: str, default: Any, *taken: Any) -> Check:
    """Return a check that an attribute has one of the values that TensorRT takes."""

    def check(node: NodeProto, known: GraphFacts) -> str | None:
        value = setting(node, name, default)
        choices = ", ".join(map(str, taken))
        return None if value in taken else f"{name} is {value}; TensorRT takes {choices}"

    return check


def _without(*names: str) -> Check:
    """Return a check that attributes are not written."""

    def check(node: NodeProto, known: GraphFacts) -> str | None:
        written = [attribute.name for attribute in node.attribute if attribute.name in names]
        return f"TensorRT does not take its {written[0]}" if written else None

    return check


def _outputs(most: int) -> Check:
    """Return a check that outputs after the first few are not used."""

    def check(node: NodeProto, known: GraphFacts) -> str | None:
        used = [name for name in node.output if name]
        return None if len(used) <= most else f"TensorRT computes only its first {most} of the {len(used)} outputs used"

    return check


def _rank(place: int, *taken: int) -> Check:
    """Return a check of the rank of an input."""

    def check(node: NodeProto, known: GraphFacts) -> str | None:
        lengths = known.lengths.get(node.input[place])
        if lengths is None or len(lengths) in taken:
            return None
        return f"{node.input[place]!r} has rank {len(lengths)}; TensorRT takes {' or '.join(map(str, taken))}"

    return check


def _dilated(node: NodeProto, known: GraphFacts) -> str | None:
    dilations = list(setting(node, "dilations", []))
    return None if set(dilations) <= {1} else f"dilations are {dilations}; TensorRT takes only ones"


def _resized_axes(node: NodeProto, known: GraphFacts) -> str | None:
    axes, lengths = list(setting(node, "axes", [])), known.lengths.get(node.input[0])
    by_scales = len(node.input) > 2 and node.input[2] != ""
    if not axes or not by_scales or lengths is None or axes == list(range(len(lengths))):
        return None
    return f"axes are {axes} of {len(lengths)}; with scales TensorRT takes all axes in order"


def _resized_nearest(node: NodeProto, known: GraphFacts) -> str | None:
    rounding = setting(node, "nearest_mode", "round_prefer_floor")
    for_tf = setting(node, "coordinate_transformation_mode", "half_pixel") == "tf_half_pixel_for_nn"
    if for_tf and rounding != "round_prefer_floor":
        return f"nearest_mode is {rounding}; with tf_half_pixel_for_nn TensorRT takes round_prefer_floor"
    return None


def _letters(node: NodeProto, known: GraphFacts) -> str | None:
    equation = setting(node, "equation", "").replace(" ", "")
    strange = sorted(set(equation) - set("abcdefghijklmnopqrstuvwxyz->.,"))
    if strange:
        return f"equation {equation!r} has {' '.join(strange)}; TensorRT takes lower-case letters only"
    for operand in equation.partition("->")[0].split(","):
        letters = operand.replace(".", "")
        if len(set(letters)) < len(letters):
            return f"equation {equation!r} takes a diagonal of an operand ({operand}), which TensorRT does not"
    return None


def _asymmetric(node: NodeProto, known: GraphFacts) -> str | None:
    """Refuse zero points other than 0 and uint8, which TensorRT would read as int8."""
    zero = node.input[2] if len(node.input) > 2 else ""
    if not zero:
        return None
    if known.formats.get(zero) in {"uint8", "uint4", "uint16", "int16", "int32"}:
        return f"its zero point is {known.formats[zero]}; TensorRT quantizes to int8, symmetrically"
    points = known.array(zero)
    if points is None:
        return f"its zero point {zero!r} must be a constant of the graph"
    return None if not points.astype("float32").any() else "its zero point is not 0; TensorRT quantizes symmetrically"


def _branches(node: NodeProto, known: GraphFacts) -> str | None:
    then, other = setting(node, "then_branch", None), setting(node, "else_branch", None)
    pairs = list(zip(_result_names(then), _result_names(other), strict=False))
    if len(then.output) != len(other.output):
        return f"its branches have {len(then.output)} and {len(other.output)} outputs; TensorRT takes equal numbers"
    for first, second in pairs:
        if first == second:
            return f"both branches call an output {first!r}; TensorRT takes different names only"
        ranks = [len(known.lengths[name]) for name in (first, second) if name in known.lengths]
        if len(set(ranks)) > 1:
            return f"outputs {first!r} and {second!r} have ranks {ranks[0]} and {ranks[1]}; TensorRT takes equal ranks"
    return None


def _result_names(graph: GraphProto) -> list[str]:
    return [output.name for output in graph.output]


def _loop(node: NodeProto, known: GraphFacts) -> str | None:
    """Refuse results that are as long as a loop runs, and carried values that change their shape."""
    body = setting(node, "body", None)
    carried = len(node.input) - 2
    collects = len(body.output) > carried + 1
    if collects and node.input[0] not in known.constants:
        return "how long its collected results are depends on the run; TensorRT takes a constant trip count there"
    for before, after in zip(body.input[2:], body.output[1 : carried + 1], strict=False):
        shapes = [known.lengths[value.name] for value in (before, after) if value.name in known.lengths]
        if len(shapes) == 2 and shapes[0] != shapes[1]:
            return f"{before.name!r} goes from {list(shapes[0])} to {list(shapes[1])}; TensorRT takes one shape"
    return None


def _two_ways(node: NodeProto, known: GraphFacts) -> str | None:
    """Refuse a bidirectional recurrence whose two directions have different activations."""
    names, gates = list(setting(node, "activations", [])), _GATES[node.op_type]
    if setting(node, "direction", "forward") == "bidirectional" and names[:gates] != names[gates:]:
        return "its two directions have different activations; TensorRT takes equal ones"
    return None


def _drops(node: NodeProto, known: GraphFacts) -> str | None:
    training = known.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if len(node.input) > 2 and node.input[2] and (training is None or training.any()):
        return "training_mode must be a constant and false; export the model in eval mode"
    return None


def _fixed_axes(node: NodeProto, known: GraphFacts) -> str | None:
    lengths = known.lengths.get(node.input[0])
    if lengths is None or all(lengths):
        return None
    return f"{node.input[0]!r} has an axis known only at run time; TensorRT takes fixed ones here"


def _fixed_axis(node: NodeProto, known: GraphFacts) -> str | None:
    lengths = known.lengths.get(node.input[0])
    axis = setting(node, "axis", -1)
    if lengths is None or lengths[axis]:
        return None
    return f"axis {axis} of {node.input[0]!r} is known only at run time; TensorRT takes a fixed one here"


def _even_pads(node: NodeProto, known: GraphFacts) -> str | None:
    pads = list(setting(node, "pads", []))
    half = len(pads) // 2
    return None if pads[:half] == pads[half:] else f"pads are {pads}; TensorRT takes the same at both ends of an axis"


_POOL = (_dilated, _rank(0, 4, 5))
_RECURRENT = (_two_ways,)
_RANDOM = (_without("seed"), _only("dtype", 1, 1, 10))

SETTINGS: dict[str, tuple[Check, ...]] = {
    "AveragePool": _POOL,
    "BatchNormalization": (_only("training_mode", 0, 0),),
    "Constant": (_without("sparse_value", "value_string", "value_strings"),),
    "DeformConv": (_even_pads, _rank(0, 3, 4)),
    "DequantizeLinear": (_asymmetric,),
    "Dropout": (_drops,),
    "Einsum": (_letters,),
    "EyeLike": (_fixed_axes,),
    "GRU": _RECURRENT,
    "GridSample": (_rank(0, 4),),
    "Hardmax": (_fixed_axis,),
    "If": (_branches,),
    "LSTM": (*_RECURRENT, _only("input_forget", 0, 0), _only("layout", 0, 0)),
    "LayerNormalization": (_outputs(1),),
    "Loop": (_loop,),
    "LpPool": (_dilated, _only("p", 2, 1, 2)),
    "MaxPool": (*_POOL, _outputs(1)),
    "QuantizeLinear": (_asymmetric,),
    "RNN": _RECURRENT,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "Resize": (
        _only("mode", "nearest", "nearest", "linear"),
        _only("coordinate_transformation_mode", "half_pixel", *_COORDINATES),
        _only("antialias", 0, 0),
        _only("keep_aspect_ratio_policy", "stretch", "stretch"),
        _resized_axes,
        _resized_nearest,
    ),
    "ScatterElements": (_only("reduction", "none", "none"),),
    "ScatterND": (_only("reduction", "none", "none"),),
}
"""Operator -> checks of how it is used. ScatterElements with a reduction would go through TensorRT's plugin library."""
