"""4-bit weights, float32 activations: an eighth of the bytes and a scale per group. See `compile/weight_only.py`."""

from __future__ import annotations

from sanderling.compile.number_format import NumberFormat
from sanderling.compile.weight_only import WeightOnly

FORMAT: NumberFormat = WeightOnly("int4_weights", bits=4)
