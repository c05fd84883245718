"""Distillation: a student learns from a teacher, to win back what compression lost or to become smaller.

`loop.train` runs a user's `task.Task`; the losses to build one from are `soft_targets`, `hidden`, `relations` and
`geometry`. `initialise` starts a student from its teacher's layers, `elastic` draws a token budget for every step.
Needs the `train` extra.
"""
