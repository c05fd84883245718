"""From what a caller passes to the values that components read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sanderling.bundle import Bundle
from sanderling.engine import AnyArray
from sanderling.errors import InputError
from sanderling.inputs import check_array, prepare_image
from sanderling.manifest import Graph
from sanderling.spec import ArrayInput, ImageInput, InputSpec, Lever, ModelSpec, TextInput
from sanderling.text import Tokenizer


class Preparer:
    """Prepares inputs for one model and says which components they are enough for.

    Args:
        model: its inputs and components.
        bundle: holds the tokenizers.
    """

    def __init__(self, model: ModelSpec, bundle: Bundle) -> None:
        self.model = model
        self.levers: dict[str, Lever] = {lever.name: lever for lever in model.levers}
        self.graphs: dict[str, dict[str, Graph]] = {}
        for graph in bundle.manifest().graphs:
            self.graphs.setdefault(graph.component, {})[graph.name] = graph
        self._inputs: dict[str, InputSpec] = {spec.name: spec for spec in model.inputs}
        self._bundle = bundle
        self._tokenizers: dict[str, Tokenizer] = {}
        self._running: dict[frozenset[str], tuple[frozenset[str], tuple[str, ...]]] = {}

    def values(self, inputs: Mapping[str, Any]) -> dict[str, AnyArray]:
        """Return the values that the inputs become, by value name.

        Raises:
            InputError: an unknown name, or an input of the wrong kind, shape, dtype or content.
        """
        values: dict[str, AnyArray] = {}
        for name, given in inputs.items():
            if name not in self._inputs:
                raise InputError(f"no input is called {name!r}; this model takes {', '.join(self._inputs)}")
            values.update(self._prepare(self._inputs[name], given))
        return values

    def running(self, values: Mapping[str, AnyArray]) -> tuple[frozenset[str], tuple[str, ...]]:
        """Return the components whose inputs are all there, and the names of the others.

        Raises:
            InputError: there is no component that could run.
        """
        key = frozenset(values)
        if key not in self._running:
            self._running[key] = self._reachable(key)
        return self._running[key]

    def _prepare(self, spec: InputSpec, given: Any) -> dict[str, AnyArray]:
        if isinstance(spec, ImageInput):
            return {spec.tensor: prepare_image(spec, given)}
        if isinstance(spec, ArrayInput):
            return {spec.name: check_array(spec, given)}
        ids, mask = self._tokenizer(spec).encode(given, spec)
        return {spec.tensor: ids, spec.mask: mask} if spec.mask else {spec.tensor: ids}

    def _tokenizer(self, spec: TextInput) -> Tokenizer:
        if spec.tokenizer not in self._tokenizers:
            self._tokenizers[spec.tokenizer] = Tokenizer(bytes(self._bundle.read(spec.tokenizer)))
        return self._tokenizers[spec.tokenizer]

    def _reachable(self, given: frozenset[str]) -> tuple[frozenset[str], tuple[str, ...]]:
        known, names = set(given), []
        for component in self.model.components:
            if all(tensor.name in known for tensor in component.inputs):
                names.append(component.name)
                known |= {tensor.name for tensor in component.outputs}
        if not names:
            raise InputError(
                f"no component can run with the inputs given ({', '.join(sorted(given)) or 'none'}); "
                f"this model takes {', '.join(self._inputs)}"
            )
        skipped = tuple(c.name for c in self.model.components if c.name not in names)
        return frozenset(names), skipped
