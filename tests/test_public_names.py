"""Everything public is exported, documented and sorted; nothing else is."""

from __future__ import annotations

import inspect

import pytest

import sanderling
from sanderling import compile as compiler
from sanderling import errors


def test_all_is_sorted_and_complete() -> None:
    public = {n for n, v in vars(sanderling).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert sanderling.__all__ == sorted(sanderling.__all__)
    assert public | {"__version__"} == set(sanderling.__all__)


def test_every_public_name_is_documented() -> None:
    for name in sanderling.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(sanderling, name)), f"{name} has no docstring"


def test_the_compiler_exports_what_it_lists() -> None:
    assert compiler.__all__ == sorted(compiler.__all__)
    for name in compiler.__all__:
        assert inspect.getdoc(getattr(compiler, name)), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'compile_modle'"):
        compiler.compile_modle  # noqa: B018 - the access is what is tested


def test_every_error_is_in_the_drawn_tree() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.SanderlingError):
            assert name in (errors.__doc__ or ""), f"{name} is missing from the tree at the top of sdk/errors.py"
            assert name in sanderling.__all__
