"""What a command-line verb is. One file each in `verbs/` of sdk, calibration or compile, exporting `VERB`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a verb found out.

    Attributes:
        data: for `--json`; plain dicts, lists, strings, numbers, booleans and None.
        text: for people; printed as it is.
        exit_code: 0 done, 1 the check failed.
    """

    data: dict[str, Any]
    text: str
    exit_code: int = 0


@dataclass(frozen=True)
class Verb:
    """A verb of the `sanderling` command.

    Attributes:
        help: one line for the list of verbs.
        description: what it does, with an example to copy.
        configure: adds the verb's arguments to its parser; `--json` is there already.
        run: does it. Raises SanderlingError for what the user can change.
    """

    help: str
    description: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Outcome]
