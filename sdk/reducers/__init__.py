"""Reducers: the rules that choose which tokens stay or merge. One file each, found by its name."""
