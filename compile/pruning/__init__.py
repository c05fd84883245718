"""Structured pruning: what a model is made of, how much each piece matters, which pieces go, and the smaller model."""
