"""16-bit floats with 5 bits of exponent: precise up to 65504. See `compile/half.py`."""

from __future__ import annotations

from sanderling.compile.half import Half
from sanderling.compile.number_format import NumberFormat

FORMAT: NumberFormat = Half("float16")
