"""int8 weights, float32 activations: a quarter of the bytes, nearly lossless. See `compile/weight_only.py`."""

from __future__ import annotations

from sanderling.compile.number_format import NumberFormat
from sanderling.compile.weight_only import WeightOnly

FORMAT: NumberFormat = WeightOnly("int8_weights", bits=8)
