"""Number formats, one file each, exporting `FORMAT`; the contract is in `compile/number_format.py`."""
