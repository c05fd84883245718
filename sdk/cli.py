"""The `sanderling` command: lists its verbs by their files, runs one, and turns what happens into an exit code."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import cast

import sanderling
from sanderling.errors import InternalError, SanderlingError
from sanderling.verb import Verb

VERB_PACKAGES = ("sanderling.verbs", "sanderling.calibration.verbs", "sanderling.compile.verbs")
"""Where verbs are looked for. Named, not imported: a device may carry the first one only."""

YOURS, OURS, STOPPED, PIPE_CLOSED = 2, 3, 130, 141
"""Exit codes besides 0 and those that errors carry themselves; the last two are the shell's own for the signals."""

_DESCRIPTION = """Compile multimodal transformers for edge devices and run them inside a budget.

A first session:

  sanderling doctor                                       which engines work here
  sanderling compile ./clip-vit-base -o clip.sand         checkpoint folder -> bundle
  sanderling inspect clip.sand                            what is inside, and its ladder
  sanderling plan clip.sand --latency-ms 20 --explain     what a budget buys
  sanderling run clip.sand --input image=photo.jpg --latency-ms 20

`sanderling VERB --help` explains a verb with an example."""

_EPILOG = """exit codes:
  0  done
  1  the check failed: something is damaged, drifts, or does not work here
  2  your input: something given has to change; the message says what and how
  3  our mistake: please report it with the traceback"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; always ends in SystemExit, with the exit code.

    Args:
        argv: arguments after the command's name; the process's own when None.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    with _ExitCodes(as_json="--json" in given):
        raise SystemExit(_run(given))


def _run(given: list[str]) -> int:
    verbs = find_verbs()
    parser = _parser(verbs)
    arguments = parser.parse_args(given)
    if arguments.verb is None:
        parser.print_help(sys.stderr)
        return YOURS
    outcome = verbs[arguments.verb].run(arguments)
    print(json.dumps(outcome.data, indent=1, allow_nan=False) if arguments.json else outcome.text)
    sys.stdout.flush()  # here, so that a closed pipe is noticed where it is handled
    return outcome.exit_code


def find_verbs() -> dict[str, Verb]:
    """Return verb name -> verb, for every file in the verb packages that are installed.

    Raises:
        InternalError: a file there exports no VERB.
    """
    found: dict[str, Verb] = {}
    for package in VERB_PACKAGES:
        for name in _modules(package):
            module = importlib.import_module(f"{package}.{name}")
            if not isinstance(getattr(module, "VERB", None), Verb):
                raise InternalError(f"{module.__name__} exports no VERB; every file beside it must")
            found[name] = cast(Verb, module.VERB)
    return dict(sorted(found.items()))


def _modules(package: str) -> list[str]:
    try:
        path = importlib.import_module(package).__path__
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # the package is there and something it imports is not
        return []
    return [module.name for module in pkgutil.iter_modules(path)]


def _parser(verbs: dict[str, Verb]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sanderling",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sanderling {sanderling.__version__}")
    choices = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB")
    for name, verb in verbs.items():
        sub = choices.add_parser(
            name,
            help=verb.help,
            description=verb.description.strip(),
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.configure(sub)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


class _ExitCodes:
    """Turns whatever leaves its block into an exit code and a message; nothing leaves it but SystemExit."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, SanderlingError):
            self._tell(error)
            raise SystemExit(error.exit_code) from None
        if isinstance(error, KeyboardInterrupt):
            print("\nstopped", file=sys.stderr)
            raise SystemExit(STOPPED) from None
        if isinstance(error, BrokenPipeError):
            # What is still buffered must go somewhere when the interpreter flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(PIPE_CLOSED) from None
        if isinstance(error, Exception):
            traceback.print_exception(error)
            self._tell(error)
            raise SystemExit(OURS) from None

    def _tell(self, error: Exception) -> None:
        print(f"error: {error}", file=sys.stderr)
        if not isinstance(error, SanderlingError) or isinstance(error, InternalError):
            print("this is a mistake of ours, please report it", file=sys.stderr)
        if self._as_json:
            print(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
