"""Which ONNX operators TensorRT 10 takes, on which number formats, and what to do instead of those it does not take.

Source: onnx-tensorrt, docs/operators.md at the 10.1 release ("TensorRT 10.0", opsets 9 to 20) with the static checks of
its parser, onnxOpCheckers.cpp and onnxOpImporters.cpp, where the two differ: Clip takes integers and NonZero too. An
operator that is not here is not taken. None of it has been compared with a running TensorRT yet.
"""

from __future__ import annotations

OPSETS = (9, 20)
"""Lowest and highest operator set that the parser of TensorRT 10.0 to 10.3 reads."""

MOST_K = 3839
"""Highest K of TopK."""

_FLOATS = frozenset({"float32", "float16", "bfloat16"})
_NUMBERS = _FLOATS | {"int32", "int64"}
_ALL = _NUMBERS | {"bool"}
_TRUTHS = frozenset({"bool"})

_BY_FORMATS: tuple[tuple[frozenset[str], str], ...] = (
    (
        _FLOATS,
        "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Conv ConvTranspose Cos Cosh CumSum "
        "Dropout Einsum Elu Erf Exp Floor GRU Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization "
        "HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LRN LSTM LayerNormalization LeakyRelu "
        "Log LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu ParametricSoftplus Pow "
        "QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize Round "
        "ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample",
    ),
    (frozenset({"float32", "float16"}), "DeformConv GridSample Mish NonMaxSuppression RoiAlign"),
    (
        _NUMBERS,
        "Abs Add ArgMax ArgMin Clip DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean "
        "Min Mod Mul Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum "
        "TopK",
    ),
    (
        _ALL,
        "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop "
        "NonZero OneHot Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    ),
    (_ALL | {"uint8"}, "Cast CastLike"),
    (_TRUTHS, "And Not Or Xor"),
    (frozenset({"int8", "int4", "float8e4m3fn"}), "DequantizeLinear"),
)

FORMATS: dict[str, frozenset[str]] = {name: formats for formats, names in _BY_FORMATS for name in names.split()}
"""Operator -> formats its data may have."""

DATA_INPUT = {"Where": 1, "OneHot": 2, "Loop": 2, "If": 1}
"""Operator -> place of the first input that carries data, where that is not 0."""

SHAPE_INPUTS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
}
"""Operator -> inputs that decide the shape of its output, so that they must be known before anything is computed."""

FIXED_INPUTS: dict[str, tuple[int, ...]] = {
    "CumSum": (1,),
    "OneHot": (1,),
    "Pad": (3,),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Slice": (3,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
"""Operator -> inputs (axes, mostly) that must be constants of the graph."""

INPUT_NAMES = {"CumSum": "axis", "OneHot": "depth"}
"""What the input of `FIXED_INPUTS` is called, where not axes."""

_SELECT = "score, TopK, sort the places and GatherElements, as the reducers in sanderling.reducers do"

INSTEAD: dict[str, str] = {
    "Compress": _SELECT,
    "DynamicQuantizeLinear": "quantize with fixed scales (QuantizeLinear with a zero point of 0)",
    "GridSample": "sample the axes two at a time, each as a 4-D picture",
    "Multinomial": "let the runtime draw: return the scores and make the draw an input",
    "NonMaxSuppression": "let the runtime suppress: return boxes and scores",
    "NonZero": _SELECT,
    "Resize": "resize once while compiling, as position embeddings are, or use linear",
    "ScatterElements": "one-hot the places and multiply matrices, as shrink in sanderling.reduction does",
    "ScatterND": "one-hot the places and multiply matrices, as shrink in sanderling.reduction does",
    "Unique": "mark members in a mask and take them with TopK",
}
"""Operator -> the form that TensorRT takes, where we have one."""
