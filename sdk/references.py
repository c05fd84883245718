"""What a manifest names, held against the members a bundle has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sanderling.errors import BundleError
from sanderling.manifest import Manifest, Weight
from sanderling.spec import TextInput
from sanderling.weights import byte_size

MANIFEST = "manifest.json"
MEASURED = "measured.json"


def check(manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """Refuse a manifest and members that do not fit each other.

    Args:
        manifest: what the bundle says about itself.
        sizes: member name -> length in bytes.

    Raises:
        BundleError: a member is missing, belongs to nothing, or has another size than the weight it holds.
    """
    used = {MANIFEST, *_members(manifest)}
    for name in sorted(used - set(sizes)):
        raise BundleError(f"{MANIFEST} names member {name!r}, which is missing; make the bundle again")
    for name in sorted(set(sizes) - used - {MEASURED}):
        raise BundleError(f"member {name!r} belongs to nothing in {MANIFEST}; make the bundle again")
    for weight in _weights(manifest):
        if sizes[weight.member] != byte_size(weight):
            raise BundleError(
                f"weight {weight.name!r} is {weight.dtype} {list(weight.shape)}, which takes {byte_size(weight):,} "
                f"bytes, and its member {weight.member!r} has {sizes[weight.member]:,}; make the bundle again"
            )


def arrays(manifest: Manifest) -> Iterator[str]:
    """Yield the members that hold golden arrays."""
    yield from (given.member for given in manifest.golden.inputs if given.member is not None)
    for case in manifest.golden.cases:
        yield from case.outputs.values()


def _members(manifest: Manifest) -> Iterator[str]:
    """Yield every member the manifest names."""
    yield from (variant.member for graph in manifest.graphs for variant in graph.variants)
    yield from (weight.member for weight in _weights(manifest))
    yield from (spec.tokenizer for spec in manifest.model.inputs if isinstance(spec, TextInput))
    yield from arrays(manifest)


def _weights(manifest: Manifest) -> Iterator[Weight]:
    return (weight for graph in manifest.graphs for variant in graph.variants for weight in variant.weights)
