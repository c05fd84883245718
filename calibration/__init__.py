"""Data, quality, profiling and the ladder. Needs no torch."""
