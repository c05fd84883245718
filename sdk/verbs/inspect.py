"""`sanderling inspect`: what is in a bundle, without reading its weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from sanderling.bundle import Bundle
from sanderling.codec import plain
from sanderling.manifest import FULL, Graph, Manifest, Measured, Provenance
from sanderling.options import add_bundle, budget_words
from sanderling.spec import ImageInput, InputSpec, ModelSpec, TensorSpec, TextInput
from sanderling.tables import engines_words, ladder_table, table
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Say what a bundle takes and gives, how it is split, which levers it has, what was measured and where, how large its
parts are and what it was made from. The weights are not read, so this is quick for any size.

Example:

  sanderling inspect model.sand
  sanderling inspect model.sand --json
"""

_KINDS = ("weights", "graphs", "golden")


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)


def _run(arguments: Namespace) -> Outcome:
    with Bundle.open(arguments.bundle) as bundle:
        manifest, measured = bundle.manifest(), bundle.measured()
        sizes = _sizes(bundle)
        digest = bundle.digest
    model = manifest.model
    budget = "none" if manifest.budget is None else budget_words(manifest.budget)
    parts = [
        f"{model.name}  (digest {digest[:16]})",
        "takes\n" + table(("name", "what", "on the command line"), [_input_row(spec) for spec in model.inputs]),
        "gives\n" + table(("name", "dtype", "shape"), [_output_row(tensor) for tensor in _outputs(model)]),
        "components, in running order\n" + _component_table(manifest, measured),
        "levers\n" + _lever_table(model),
        f"default budget: {budget}",
        _measured_words(measured),
        "size\n" + table(("kind", "members", "MB"), [(k, str(n), f"{b / 1e6:.3f}") for k, (n, b) in sizes.items()]),
        "made from\n" + _provenance_words(manifest.provenance),
    ]
    return Outcome(_data(manifest, measured, sizes, digest), "\n\n".join(parts))


def _input_row(spec: InputSpec) -> tuple[str, str, str]:
    if isinstance(spec, ImageInput):
        how = {"exact": "stretched", "shortest": "scaled and cropped", "none": "which has to be"}[spec.resize]
        return spec.name, f"a picture, {how} to {spec.height} x {spec.width}", f"--input {spec.name}=photo.jpg"
    if isinstance(spec, TextInput):
        return spec.name, f"a text of at most {spec.max_tokens} tokens", f'--input {spec.name}="a red car"'
    return spec.name, f"{spec.dtype} {_shape(spec.shape)}", f"--input {spec.name}=array.npy"


def _output_row(tensor: TensorSpec) -> tuple[str, str, str]:
    return tensor.name, tensor.dtype, _shape(tensor.shape)


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(str(axis) for axis in shape)}]"


def _outputs(model: ModelSpec) -> list[TensorSpec]:
    written = {tensor.name: tensor for component in model.components for tensor in component.outputs}
    return [written[name] for name in model.outputs if name in written]


def _component_table(manifest: Manifest, measured: Measured | None) -> str:
    rows = []
    for component in manifest.model.components:
        graphs = [graph for graph in manifest.graphs if graph.component == component.name]
        chosen = "not measured" if measured is None else measured.placements[component.name][FULL].target
        others = sorted({variant.target for graph in graphs for variant in graph.variants} - {chosen})
        rows.append((component.name, chosen, ", ".join(others) or "none", " ".join(graph.name for graph in graphs)))
    return table(("component", "runs on", "also in the bundle", "graphs"), rows)


def _lever_table(model: ModelSpec) -> str:
    if not model.levers:
        return "  none: this model has one cost"
    rows = [(v.name, str(v.minimum), str(v.maximum), str(v.default), v.unit) for v in model.levers]
    return table(("name", "from", "to", "default", "unit"), rows)


def _measured_words(measured: Measured | None) -> str:
    if measured is None:
        return "measured: nothing yet; `sanderling profile` does it"
    where = f"measured for device {measured.device}; {engines_words(measured)}"
    if measured.stand_in:
        where += "\n  STAND-IN: measured on another machine than the device; run `sanderling profile` there"
    machine = table(("machine", ""), list(measured.machine.items()))
    ladder = f"ladder, cheapest first; quality is {measured.ladder.metric}\n{ladder_table(measured.ladder)}"
    return f"{where}\n{machine}\n\n{ladder}"


def _sizes(bundle: Bundle) -> dict[str, tuple[int, int]]:
    """Return kind of member -> how many and how many bytes."""
    found = dict.fromkeys((*_KINDS, "documents"), (0, 0))
    for name in bundle.names():
        kind = name.split("/")[0] if name.split("/")[0] in _KINDS else "documents"
        count, total = found[kind]
        found[kind] = (count + 1, total + bundle.size(name))
    return found


def _provenance_words(provenance: Provenance) -> str:
    made_up = "none given: inputs were made up"
    rows = [
        ("source", provenance.source[:16]),
        ("data", provenance.data[:16] or made_up),
        ("recipe", provenance.recipe),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
    ]
    return table(("what", "digest or value"), rows)


def _data(
    manifest: Manifest, measured: Measured | None, sizes: dict[str, tuple[int, int]], digest: str
) -> dict[str, Any]:
    return {
        "digest": digest,
        "schema": manifest.schema,
        "model": plain(manifest.model),
        "graphs": [_graph_data(graph) for graph in manifest.graphs],
        "budget": plain(manifest.budget),
        "provenance": plain(manifest.provenance),
        "sizes": {kind: {"members": count, "bytes": total} for kind, (count, total) in sizes.items()},
        "measured": None if measured is None else plain(measured),
    }


def _graph_data(graph: Graph) -> dict[str, Any]:
    """Return a graph without the list of its weights, which can be thousands of lines."""
    fields: dict[str, Any] = plain(graph)
    return fields | {"variants": [f"{variant.target} {variant.format}" for variant in graph.variants]}


VERB = Verb(
    help="what is in a bundle: inputs, levers, ladder, sizes, origin",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
