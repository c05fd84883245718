"""What a bundle says about itself.

`manifest.json` is the same for the same input; `measured.json` has the figures of one machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sanderling.budget import Budget
from sanderling.cost_model import CostModel
from sanderling.ladder import Ladder, Quality, Rung
from sanderling.spec import ModelSpec, SiteKind

SCHEMA = 3
"""Version of the manifest's form; a bundle with a higher one is refused."""

FULL = "full"
"""Name of the graph in which no lever acts."""

FLOAT32 = "float32"
"""Name of the number format that changes nothing."""


@dataclass(frozen=True)
class Weight:
    """A tensor of a graph, kept once for the whole bundle.

    Attributes:
        name: of the initializer in the graph.
        dtype: NumPy dtype name.
        shape: lengths.
        member: bundle member with the raw little-endian bytes, `weights/<sha256>`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    member: str


@dataclass(frozen=True)
class Variant:
    """A graph in the form one target opens.

    Attributes:
        target: file name in targets/.
        format: number format of its weights and arithmetic, "float32" for the source's own.
        member: bundle member with the ONNX model, its weights left out.
        weights: what was left out.
    """

    target: str
    format: str
    member: str
    weights: tuple[Weight, ...]


@dataclass(frozen=True)
class Graph:
    """One way to run a component.

    Attributes:
        component: which.
        name: "full", or reducer and layer such as "saliency@2".
        levers: scalar inputs it has besides the component's own.
        reducer: file name in reducers/, "" for "full".
        kind: kind of site the reducer acts at, or None for "full".
        layer: of the site.
        report: output with the original places of the tokens that are left, or "".
        variants: one per target.
    """

    component: str
    name: str
    levers: tuple[str, ...]
    reducer: str
    kind: SiteKind | None
    layer: int
    report: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class GoldenInput:
    """A model input of the self-test: a text, or an array in a member of the bundle."""

    name: str
    text: str | None
    member: str | None


@dataclass(frozen=True)
class GoldenCase:
    """What the source model answered at one setting.

    Attributes:
        settings: lever name -> setting.
        graphs: component name -> graph.
        outputs: value name -> bundle member with the array.
        bound: largest absolute difference that an engine may show.
    """

    settings: dict[str, int]
    graphs: dict[str, str]
    outputs: dict[str, str]
    bound: float


@dataclass(frozen=True)
class Golden:
    """Inputs and the source model's answers, so that a device can test itself."""

    inputs: tuple[GoldenInput, ...]
    cases: tuple[GoldenCase, ...]


@dataclass(frozen=True)
class Provenance:
    """Where a bundle comes from.

    Attributes:
        source: digest of the source's configuration and weights.
        data: digest of the calibration and evaluation data, "" when none was given.
        recipe: the effective recipe, every default filled in.
        versions: library -> version that made it.
    """

    source: str
    data: str
    recipe: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle that does not depend on the machine it was measured on.

    Attributes:
        schema: version of this form.
        model: components, levers, sites, inputs and outputs.
        graphs: every way to run every component.
        golden: the self-test.
        provenance: where it comes from.
        budget: for calls when neither they nor their session bring one; None for no limit.
    """

    schema: int
    model: ModelSpec
    graphs: tuple[Graph, ...]
    golden: Golden
    provenance: Provenance
    budget: Budget | None = None

    def graph(self, component: str, name: str) -> Graph:
        """Return a component's graph by name."""
        return next(g for g in self.graphs if (g.component, g.name) == (component, name))


@dataclass(frozen=True)
class Trial:
    """A setting that was measured and what became of it: `verdict` is "rung" or the reason it is none."""

    rung: Rung
    verdict: str


@dataclass(frozen=True)
class Drift:
    """How far a target's outputs are from the source model's at one setting."""

    target: str
    graphs: dict[str, str]
    settings: dict[str, int]
    output: str
    max_abs: float
    cosine: float
    bound: float


@dataclass(frozen=True)
class Placement:
    """How a graph runs here.

    Attributes:
        target: file name in targets/.
        format: number format.
        threads: worker threads; small graphs are often faster on one.
    """

    target: str
    format: str
    threads: int


@dataclass(frozen=True)
class PlacementCost:
    """Milliseconds of one graph run one way, when the fastest way was chosen.

    Attributes:
        component: whose graph.
        graph: its name.
        placement: how it was run.
        settings: of the levers, when its inputs were made and it was called.
        p50_ms: median.
        samples: calls; a way that is clearly slower is given up early.
    """

    component: str
    graph: str
    placement: Placement
    settings: dict[str, int]
    p50_ms: float
    samples: int


@dataclass(frozen=True)
class FormatDecision:
    """What became of a number format that was offered for a component.

    Attributes:
        component: which.
        format: its name.
        p50_ms: geometric mean over the component's graphs when it may be used.
        float32_ms: the same in float32 alone.
        quality: of the model with it and whatever was kept before; None when it was not judged.
        float32_quality: of the model in float32, on the same samples and settings.
        verdict: "kept", or why not.
    """

    component: str
    format: str
    p50_ms: float
    float32_ms: float
    quality: Quality | None
    float32_quality: Quality | None
    verdict: str


@dataclass(frozen=True)
class Measured:
    """What was measured, and where.

    Attributes:
        device: name of a file in targets/devices/.
        machine: what the machine says of itself.
        stand_in: True when the machine is not the device.
        threads: most worker threads an engine may use.
        placements: component -> graph -> how it runs.
        ladder: what the planner chooses from.
        trials: everything measured, admitted or not.
        drift: engines against the source model.
        placement_costs: why each graph runs where it does.
        formats: number formats that were offered, and why each is used or not.
        source_quality: of the source model in torch, before any pass; None when nobody measured it.
        cost_model: predicts settings between the measured ones; None when too few were measured.
    """

    device: str
    machine: dict[str, str]
    stand_in: bool
    threads: int
    placements: dict[str, dict[str, Placement]]
    ladder: Ladder
    trials: tuple[Trial, ...] = field(default=())
    drift: tuple[Drift, ...] = field(default=())
    placement_costs: tuple[PlacementCost, ...] = field(default=())
    formats: tuple[FormatDecision, ...] = field(default=())
    source_quality: Quality | None = None
    cost_model: CostModel | None = None
