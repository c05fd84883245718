"""16-bit floats with float32's range and 8 bits of precision. See `compile/half.py`."""

from __future__ import annotations

from sanderling.compile.half import Half
from sanderling.compile.number_format import NumberFormat

FORMAT: NumberFormat = Half("bfloat16")
