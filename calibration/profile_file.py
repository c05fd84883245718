"""What a profile in a file of its own says; every key has its unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sanderling.atomic import write_whole
from sanderling.calibration.intervals import Interval, Steadiness
from sanderling.calibration.peak import Peak
from sanderling.codec import from_json, to_json
from sanderling.conditions import Conditions
from sanderling.errors import BundleError, InputError
from sanderling.manifest import Placement
from sanderling.tables import graphs_words, settings_words

FORM = "sanderling profile 1"
"""Marks the file and the version of its form."""


@dataclass(frozen=True)
class Percentiles:
    """The 50th, 90th and 99th percentile of calls."""

    p50: Interval
    p90: Interval
    p99: Interval


@dataclass(frozen=True)
class RungProfile:
    """Calls of one rung.

    Attributes:
        settings: lever name -> setting.
        graphs: component -> graph.
        first_ms: the very first call of this rung after loading.
        warm_up_calls: calls before it was steady, or before the bound was reached.
        warm: whether it was steady then.
        latency: of whole calls, preparation of the inputs included.
        components: component -> its own share of the calls.
        samples_ms: every call that counts, in the order they were made.
        steadiness: of these calls.
        memory_mb: peak resident memory of the process; None where the system does not tell.
        energy_j: joules of one call; None where there is no meter.
    """

    settings: dict[str, int]
    graphs: dict[str, str]
    first_ms: float
    warm_up_calls: int
    warm: bool
    latency: Percentiles
    components: dict[str, Percentiles]
    samples_ms: tuple[float, ...]
    steadiness: Steadiness
    memory_mb: float | None
    energy_j: float | None

    @property
    def name(self) -> str:
        """What the rung is called in tables and matched by in comparisons."""
        return f"{graphs_words(self.graphs)} {settings_words(self.settings)}"


@dataclass(frozen=True)
class OperatorRow:
    """One operator of a component's graph, as the engine runs it after its own fusions.

    Attributes:
        component: whose graph.
        graph: its name.
        operator: the engine's name for the kind, such as "Gemm".
        node: the engine's name for the one.
        ms: mean of one call of the graph.
        share: of all operators of that graph.
    """

    component: str
    graph: str
    operator: str
    node: str
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """What one bundle costs on one machine at one time.

    Attributes:
        form: `FORM`.
        versions: of Sanderling; the engines' are in `machine`.
        taken_at: UTC, ISO 8601.
        model: its name.
        bundle_digest: of the whole file.
        content_digest: of everything in it but its measurements; the same before and after `sanderling profile`.
        device: that the bundle's ladder is of.
        machine: what this machine says of itself.
        placements: component -> graph -> how it runs.
        import_ms: loading the engines' libraries into the process.
        load_ms: opening the bundle and all engines of its ladder, libraries not included.
        first_ms: the very first call, of the full model.
        before: the state of the machine when the calls began.
        after: the state when they ended.
        peak_before: what the machine could do then at most; None unless asked for.
        peak_after: likewise when they ended.
        cooled_s: seconds waited for the machine to cool; None unless asked for.
        energy_meter: which, or "not available" with the reason.
        rungs: cheapest first.
        operators: of the full model, dearest first; empty unless asked for.
        doubts: sentences on what makes the figures less than certain; empty is good.
    """

    form: str
    versions: dict[str, str]
    taken_at: str
    model: str
    bundle_digest: str
    content_digest: str
    device: str
    machine: dict[str, str]
    placements: dict[str, dict[str, Placement]]
    import_ms: float
    load_ms: float
    first_ms: float
    before: Conditions
    after: Conditions
    peak_before: Peak | None
    peak_after: Peak | None
    cooled_s: float | None
    energy_meter: str
    rungs: tuple[RungProfile, ...]
    operators: tuple[OperatorRow, ...]
    doubts: tuple[str, ...]


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile as JSON, wholly or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_whole(path, [to_json(profile)])


def read_profile(path: Path) -> Profile:
    """Return a profile that `write_profile` wrote.

    Raises:
        InputError: there is no such file, or it is no profile of this form.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; `sanderling profile --output` writes it") from error
    try:
        profile = from_json(Profile, data, str(path))
    except BundleError as error:
        raise InputError(f"not a profile: {error}; `sanderling profile BUNDLE --output {path}` writes one") from error
    if profile.form != FORM:
        raise InputError(f"{path} is of the form {profile.form!r}, expected {FORM!r}; take the profile again")
    return profile
