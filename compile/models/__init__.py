"""Architectures, one file each, named after the `model_type` they serve."""
