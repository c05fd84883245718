"""`sanderling run`: one answer from a bundle, and its receipt."""

from __future__ import annotations

import io
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np

from sanderling.engine import AnyArray
from sanderling.errors import InputError
from sanderling.options import add_budget, add_bundle, budget_of, budget_words
from sanderling.receipt import Receipt
from sanderling.session import Answer, load
from sanderling.spec import ArrayInput, InputSpec
from sanderling.tables import figure, graphs_words, settings_words
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Answer one call and print the outputs and the receipt. A picture is given by its path, an array by a .npy file, a text
as it is; the same name again makes a batch. One call warms the engines up before the one that counts.

Example:

  sanderling run model.sand --input image=photo.jpg --input text="a red car" --latency-ms 20
  sanderling run model.sand --input image=a.jpg --input image=b.jpg --save answers.npz
"""

MOST_PRINTED = 24
MOST_IN_JSON = 10_000


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="NAME=VALUE",
        dest="inputs",
        help="an input: a picture's path, a .npy file's path, or a text; may be given again",
    )
    parser.add_argument("--save", type=Path, metavar="OUT.npz", help="also write the outputs to this file")
    add_budget(parser)


def _run(arguments: Namespace) -> Outcome:
    budget = budget_of(arguments)
    with load(arguments.bundle) as session:
        inputs = read_inputs(arguments.inputs, session.manifest.model.inputs)
        session.run(inputs, budget)
        answer = session.run(inputs, budget)
    if arguments.save is not None:
        _save(arguments.save, answer.outputs)
    data = {
        "outputs": {name: _as_data(array) for name, array in answer.outputs.items()},
        "receipt": answer.receipt.to_dict(),
    }
    return Outcome(data, _words(answer, arguments.save))


def read_inputs(given: list[str], specs: tuple[InputSpec, ...]) -> dict[str, Any]:
    """Return what NAME=VALUE arguments stand for, as `Session.run` takes it.

    Args:
        given: the arguments, in order; a name that comes again adds to the batch.
        specs: the model's inputs.

    Raises:
        InputError: not of that form, an unknown name, or a file that is no array.
    """
    known = {spec.name: spec for spec in specs}
    batches: dict[str, list[Any]] = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        if not equals:
            raise InputError(f"--input is {argument!r}, expected NAME=VALUE such as {specs[0].name}=...")
        if name not in known:
            raise InputError(f"no input is called {name!r}; this model takes {', '.join(known)}")
        batches.setdefault(name, []).append(_array(name, value) if isinstance(known[name], ArrayInput) else value)
    return {name: _joined(name, values) for name, values in batches.items()}


def _array(name: str, value: str) -> AnyArray:
    try:
        array = np.load(value, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"input {name!r}: {value} cannot be read as a .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"input {name!r}: {value} holds several arrays, expected a .npy file with one")
    return array


def _joined(name: str, values: list[Any]) -> Any:
    """Return one value as it is and several as a batch."""
    if len(values) == 1:
        return values[0]
    if not isinstance(values[0], np.ndarray):
        return values
    try:
        return np.concatenate(values)
    except ValueError as error:
        raise InputError(f"input {name!r}: the {len(values)} arrays make no batch: {error}") from error


def _save(path: Path, outputs: dict[str, AnyArray]) -> None:
    from sanderling.atomic import write_whole

    file = io.BytesIO()
    np.savez(file, **outputs)  # type: ignore[arg-type]  # its stub takes names for flags
    write_whole(path, [file.getvalue()])


def _as_data(array: AnyArray) -> dict[str, Any]:
    described: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if array.size > MOST_IN_JSON:
        return described | {"note": f"{array.size} values are too many to print; --save writes them"}
    finite = np.isfinite(array)
    values = array if finite.all() else np.where(finite, array.astype(object), np.asarray(None))  # JSON has no NaN
    return described | {"values": values.tolist()}


def _words(answer: Answer, saved: Path | None) -> str:
    lines = [_output_words(name, array) for name, array in answer.outputs.items()]
    if saved is not None:
        lines.append(f"written to {saved}")
    return "\n".join([*lines, "", *receipt_lines(answer.receipt)])


def _output_words(name: str, array: AnyArray) -> str:
    head = f"{name}  {array.dtype.name} {list(array.shape)}"
    if array.size > MOST_PRINTED:
        return head
    return f"{head}\n  {np.array2string(array, precision=4, suppress_small=True, prefix='  ')}"


def receipt_lines(receipt: Receipt) -> list[str]:
    """Return a receipt for people, line by line."""
    plan, asked = receipt.plan, receipt.asked
    met = {True: ", in time", False: ", too late", None: ""}[receipt.met]
    if receipt.answers_call != receipt.call:
        met += f", answered with call {receipt.answers_call}, the last in time"
    elif receipt.miss == "partial":
        met += ", loops stopped early"
    parts = {"preparing": receipt.prepare_ms, **receipt.components_ms}
    return [
        f"asked      {budget_words(asked)}",
        f"planned    {graphs_words(plan.graphs)} at {settings_words(plan.settings)}: {plan.reason}",
        f"predicted  {figure(plan.predicted_ms)} ms at p{asked.percentile:g}",
        f"spent      {figure(receipt.spent_ms)} ms{met}: " + ", ".join(f"{n} {figure(ms)}" for n, ms in parts.items()),
        f"left out   {'; '.join(str(entry) for entry in receipt.reduced) or 'nothing'}",
        *([f"not run    {', '.join(receipt.skipped)}: no input for them"] if receipt.skipped else []),
    ]


VERB = Verb(
    help="one answer inside a budget, and its receipt",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
