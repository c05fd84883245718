"""`sanderling doctor`: what this machine is and which engines work on it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from sanderling.tables import table
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Say what this machine is, which device file fits it, and for every engine whether it works here.

Each engine is opened and asked to run a tiny graph, so PASS means that it ran. A FAIL has its reason and what to
install; caution is what has not been shown about a target yet, on any machine. The exit code is 1 when no engine
works.

Example:

  sanderling doctor
  sanderling doctor --json | python -m json.tool
"""


def _configure(parser: ArgumentParser) -> None:
    """Add nothing: the verb takes no arguments of its own."""


def _run(arguments: Namespace) -> Outcome:
    from sanderling.doctor import diagnose

    found = diagnose()
    works = any(row.status == "PASS" for row in found.rows)
    facts = table(("machine", ""), list(found.machine.items()))
    engines = table(
        ("engine", "status", "reason", "caution"),
        [(row.name, row.status, row.reason, row.caution) for row in found.rows],
    )
    device = found.device or "none; add one to targets/devices"
    fitting = table(
        ("device file that fits", "runs on", "engines", "formats to try"),
        [(each.name, each.processor, " ".join(each.targets), " ".join(each.formats)) for each in found.devices],
    )
    outdated = "".join(f"\n  {told}" for told in found.outdated)
    verdict = "" if works else "\n\nNo engine works here; install one: pip install 'sanderling[onnxruntime]'"
    return Outcome(
        data={
            "machine": dict(found.machine),
            "device": found.device,
            "devices": [each.name for each in found.devices],
            "outdated": list(found.outdated),
            "targets": [asdict(row) for row in found.rows],
        },
        text=f"{facts}\n\n  device file that fits: {device}{outdated}\n\n{fitting}\n\n{engines}{verdict}",
        exit_code=0 if works else 1,
    )


VERB = Verb(
    help="what this machine is and which engines work on it",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
