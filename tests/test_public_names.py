"""Everything public is exported, documented and sorted; nothing else is."""

from __future__ import annotations

import inspect

import sanderling


def test_all_is_sorted_and_complete() -> None:
    public = {n for n, v in vars(sanderling).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert sanderling.__all__ == sorted(sanderling.__all__)
    assert public | {"__version__"} == set(sanderling.__all__)


def test_every_public_name_is_documented() -> None:
    for name in sanderling.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(sanderling, name)), f"{name} has no docstring"


def test_every_error_is_in_the_drawn_tree() -> None:
    from sanderling import errors

    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.SanderlingError):
            assert name in (errors.__doc__ or ""), f"{name} is missing from the tree at the top of sdk/errors.py"
            assert name in sanderling.__all__
