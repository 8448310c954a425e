"""What is fitted on prompts of several kinds: the gate of the main directions, and parts with gates of their own."""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.files import sha256
from sa_lightning.fitting.prompts import (
    KnownPrompt,
    Prompts,
    PromptStates,
    appended_ids,
    counts,
    gate_prompts,
    of_kinds,
    questions,
    read_prompts,
)
from sa_lightning.models import tokenize
from sa_lightning.steering import GateSettings, PartSettings, SteeringArtifact, fit_gate, fit_joined, fit_part
from sa_lightning.steering.artifact.part import HARMLESS
from sa_lightning.steering.demonstrations import has_kinds


def check_parts(parts: Mapping[str, PartSettings], gate: GateSettings, control: str) -> None:
    """Refuse parts that cannot be kept, or act, together.

    Raises:
        SettingError: With the names and what to write.
    """
    wrong = [name for name in parts if not re.fullmatch(r"[\w-]+", name)]
    if wrong:
        raise SettingError(
            f"A part is called {wrong[0]!r}.\nNames of parts become keys of tensors and names of files.\n"
            "Use letters, digits, `_` and `-`."
        )
    words = {one.append for one in (gate, *(part.gate for part in parts.values())) if one.kind == "transition"}
    if len(words) > 1:
        raise SettingError(
            f"Gates append {', '.join(sorted(words))} to a prompt.\nIt is read behind one of them.\n"
            "Give all the same `append`."
        )
    if control == "shuffled" and parts:
        raise SettingError(
            f"`steering.control` is shuffled, with parts {', '.join(parts)}.\n"
            "Pairs are shuffled, and parts are fitted on prompts, which would stay as they are.\n"
            "Take `random`, or leave the parts out."
        )


class PromptParts:
    """Settings with the prompts that they need, read and checked before a model is.

    Args:
        gate: Of the main directions.
        parts: Others, by name.
        data: The demonstrations' data module, set up.
        depth: Number of layers of the model.
        target: Its name.
    """

    def __init__(
        self, gate: GateSettings, parts: Mapping[str, PartSettings], data: Any, depth: int, target: str
    ) -> None:
        self.gate, self.parts, self.data = gate, parts, data
        self._files: dict[str, Prompts] = {}
        self._sources: dict[str, str] = {}  # of gates and parts: the file that was read
        self._gated: dict[str, dict[str, list[KnownPrompt]]] = {}
        self._fitted: dict[str, dict[str, list[KnownPrompt]]] = {}
        self._counts: dict[str, dict[str, dict[str, int]]] = {}
        for name, settings in {"": gate, **{name: part.gate for name, part in parts.items()}}.items():
            where = f"parts.{name}.gate" if name else "gate"
            _check_layers(settings.layers, f"steering.{where}.layers", depth, target, "A gate reads states behind")
            if settings.kind != "always":
                given = settings.prompts or (parts[name].prompts if name else None)
                prompts = self._prompts(given, f"gate {name}")
                self._gated[name] = gate_prompts(settings, prompts)
                self._counts[name] = counts(settings, prompts)
        for name, part in parts.items():
            _check_layers(part.layers, f"steering.parts.{name}.layers", depth, target, "A direction acts behind")
            of = None if part.of_layer is None else [part.of_layer]
            _check_layers(of, f"steering.parts.{name}.of_layer", depth, target, "A direction is taken from")
            found = self._prompts(part.prompts or part.gate.prompts or gate.prompts, f"part {name}")
            self._fitted[name] = {what: of_kinds(found, kinds, part.per_kind) for what, kinds in part.kinds.items()}
            part.check_prompts({what: len(prompts) for what, prompts in self._fitted[name].items()})

    @property
    def unused(self) -> dict[str, dict[str, int]]:
        """File by file, the kinds that nothing is fitted on, with how many prompts of them there are."""
        used = {f"gate {name}": [*itertools.chain(*sides.values())] for name, sides in self._counts.items()}
        used |= {f"part {name}": [*itertools.chain(*part.kinds.values())] for name, part in self.parts.items()}
        left = {}
        for path, prompts in self._files.items():
            taken = {kind for what, kinds in used.items() if self._sources.get(what) == path for kind in kinds}
            left[Path(path).name] = {kind: len(found) for kind, found in prompts.items() if kind not in taken}
        return {name: kinds for name, kinds in left.items() if kinds}

    def fit(self, artifact: SteeringArtifact, name: str, module: Any) -> None:
        """Fit everything on the weights as they are now, the same in every process, and put it in the artifact."""
        needed = [part.read(artifact.num_layers) for part in self.parts.values()]
        needed += [one.read_layers(artifact.num_layers) for one in self._gates.values()]
        states = PromptStates(module, sorted({layer for layers in needed for layer in layers}))
        if "" in self._gated:
            self._fit_gate(artifact, name, "", states)
        for part, settings in self.parts.items():
            own = artifact.parts.get(part)
            if own is None:
                own = artifact.parts[part] = SteeringArtifact(
                    directions={},
                    fingerprints=artifact.fingerprints,
                    model=artifact.model,
                    num_layers=artifact.num_layers,
                    d_model=artifact.d_model,
                    blocks=artifact.blocks,
                    intervention=settings.taken_intervention,
                    strength=0.0 if settings.taken_strength == "auto" else settings.taken_strength,
                    unit=artifact.unit,
                    sinks=artifact.sinks,
                    only_prompt=settings.only_prompt,
                    template=artifact.template,
                    template_arguments=artifact.template_arguments,
                    template_tail=artifact.template_tail,
                    extraction={
                        name: value
                        for name, value in dataclasses.asdict(settings).items()
                        if name not in ("gate", "intervention", "strength", "only_prompt", "prompts")
                    },
                )
            own.extraction |= self._provenance(f"part {part}")
            read = states.of(self._fitted[part])
            own.directions[name] = fit_part(settings, read, artifact.num_layers, states.layers)
            if part in self._gated:
                self._fit_gate(own, name, part, states)

    @property
    def harmless(self) -> list[str]:
        """Harmless prompts among those that gates and parts are fitted on, each once."""
        found = [known.text for prompts in self._files.values() for kind in HARMLESS for known in prompts.get(kind, [])]
        return list(dict.fromkeys(found))

    def sequences(self, module: Any) -> list[list[int]]:
        """Token ids of the prompts that gates and parts are fitted on, kind by kind in turn."""
        sides = [side for held in (*self._fitted.values(), *self._gated.values()) for side in held.values()]
        texts = [known.text for row in itertools.zip_longest(*sides) for known in row if known is not None]
        return [tokenize(module.tokenizer, [{"role": "user", "content": text}])[0] for text in dict.fromkeys(texts)]

    @property
    def _gates(self) -> dict[str, GateSettings]:
        """All gates, by the name of their part; that of the main directions under none."""
        return {name: self.parts[name].gate if name else self.gate for name in self._gated}

    def _provenance(self, what: str) -> dict[str, str]:
        path = self._sources.get(what)
        return {} if path is None else {"prompts": Path(path).name, "prompts_sha256": sha256(path)}

    def _fit_gate(self, artifact: SteeringArtifact, name: str, part: str, states: PromptStates) -> None:
        settings, prompts = self._gates[part], self._gated[part]
        first, ids = next(iter(prompts.values()))[0], []
        if settings.kind == "transition":
            conversation = [{"role": "user", "content": first.text}]
            ids = appended_ids(states.module.tokenizer, conversation, settings.append)
        layers = settings.read_layers(artifact.num_layers)
        index = [states.layers.index(layer) for layer in layers]
        sides = [states(side, ids, settings.kind == "condition").of(index) for side in prompts.values()]
        if settings.join is None:
            fitted = fit_gate(settings, layers, *sides)
        else:
            *found, others = sides
            fitted = fit_joined(settings, layers, dict(zip(settings.finds, found, strict=True)), others)
        told = artifact.gate or {**dataclasses.asdict(settings), "ids": ids, "sets": {}}
        told |= {"kinds": self._counts[part], **self._provenance(f"gate {part}")}
        told["sets"][name] = fitted.record
        artifact.gate = told
        artifact.gates[name] = fitted.vectors

    def _prompts(self, path: str | None, what: str) -> Prompts:
        if path is None and not has_kinds(self.data.path):
            return questions(self.data.pairs)
        path = self._sources[what] = str(path or self.data.path)
        if path not in self._files:
            self._files[path] = read_prompts(path)
        return self._files[path]


def _check_layers(layers: list[int] | None, name: str, depth: int, target: str, why: str) -> None:
    if layers is not None and (not layers or any(not 0 <= layer < depth for layer in layers)):
        raise SettingError(
            f"`{name}` has {layers}, but {target} has {depth} layers, 0 to {depth - 1}.\n"
            f"{why} blocks that exist.\nMend it, or leave it out."
        )
