"""A gate as an artifact keeps it: its settings, and what was fitted on each set of weights."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.files import Json
from sa_lightning.steering.gates.combined import AlwaysGate
from sa_lightning.steering.gates.fitting import GateState
from sa_lightning.steering.gates.gate import Gate
from sa_lightning.steering.gates.policy import Band, Policy
from sa_lightning.steering.gates.record import GateRecord
from sa_lightning.steering.gates.settings import GateSettings

#: Every prompt is steered, without a look at it.
UNGATED: tuple[Gate, Policy] = (AlwaysGate(), Policy((Band(-math.inf, math.inf, 1.0),)))


@dataclass
class FittedGate:
    """A gate with its threshold, for each set of weights.

    Attributes:
        settings: What it is to find, and what is done there.
        states: Name of a set of weights to what was fitted on them.
        ids: Token ids of the appended word, where it reads behind one.
        kinds: Of each side (`positive`, …), how many prompts of each kind it was fitted on.
        provenance: File name of the prompts, and its SHA-256, where they are not the demonstrations' questions.
    """

    settings: GateSettings
    states: dict[str, GateState] = field(default_factory=dict[str, GateState])
    ids: tuple[int, ...] = ()
    kinds: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    provenance: dict[str, str] = field(default_factory=dict[str, str])

    def of(self, name: str) -> tuple[Gate, Policy]:
        """Return the gate that was fitted on the weights of a set, and what is done at its scores.

        Raises:
            ArtifactError: If it was not fitted on these weights.
        """
        if name not in self.states:
            raise ArtifactError(
                f"The artifact has no gate for `{name}` weights, only for {', '.join(self.states) or 'none'}.\n"
                "A gate belongs to the weights it was fitted on.\nFit the artifact again with `sa fit`."
            )
        state = self.states[name]
        return state.gate(self.settings), self.settings.policy(state.record.threshold)

    def kinds_of(self, side: str) -> list[str]:
        """The kinds of prompts of a side, as far as there were such."""
        return list(self.kinds.get(side, ()) if self.kinds else getattr(self.settings, side))

    def said(self) -> str:
        """The kinds of prompts that it finds, in words."""
        return (" or " if self.settings.join == "any" else " and ").join(self.kinds_of("positive"))

    def check(self, num_layers: int, d_model: int) -> None:
        """Refuse vectors that do not fit the records, or the model.

        Raises:
            ArtifactError: With both.
        """
        wrong = sorted(
            {
                (name, layer, tuple(vector.shape))
                for name, state in self.states.items()
                for layer, vector in state.vectors.items()
                if tuple(vector.shape) != state.shape(d_model)
                or not 0 <= layer < num_layers
                or not bool(torch.isfinite(vector).all())
            }
        )
        empty = [name for name, state in self.states.items() if not state.vectors]
        if wrong or empty or not self.states:
            raise ArtifactError(
                f"The gate was fitted for {sorted(self.states)}, but vectors are missing for {empty}, do not fit "
                f"d_model {d_model} and {num_layers} layers, or are not finite: {wrong}.\n"
                "Without them no prompt can be told from another.\nFit the artifact again with `sa fit`."
            )
        for name in self.states:
            try:
                self.of(name)
            except (KeyError, IndexError, ValueError, RuntimeError, SettingError) as error:
                raise ArtifactError(
                    f"The gate for {name} weights cannot be made again: {type(error).__name__}, "
                    f"{str(error).splitlines()[0]}.\n"
                    "Without it no prompt can be told from another.\nFit the artifact again with `sa fit`."
                ) from error

    def as_dict(self) -> Json:
        """Return all but the vectors, as plain JSON values."""
        return {
            **asdict(self.settings),
            **self.provenance,
            "ids": list(self.ids),
            "kinds": self.kinds,
            "sets": {name: state.record.as_dict() for name, state in self.states.items()},
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], vectors: Mapping[str, Mapping[int, Tensor]]) -> "FittedGate":
        """Return what `as_dict` wrote, with the vectors of each set.

        Raises:
            ArtifactError: If it was fitted on other sets than there are vectors of.
        """
        sets = found.get("sets", {})
        if sets.keys() != vectors.keys():
            raise ArtifactError(
                f"The gate was fitted for {sorted(sets)}, but there are vectors for {sorted(vectors)}.\n"
                "Without them no prompt can be told from another.\nFit the artifact again with `sa fit`."
            )
        states = {name: GateState(dict(vectors[name]), GateRecord.from_dict(sets[name])) for name in sets}
        known = {name: found[name] for name in ("prompts", "prompts_sha256") if isinstance(found.get(name), str)}
        settings, ids = GateSettings.from_record(found), tuple(found.get("ids", ()))
        if not all(type(token) is int for token in ids):
            raise TypeError(f"`ids` is {str(ids)[:60]}, where numbers of tokens belong")
        return cls(settings, states, ids, dict(found.get("kinds", {})), known)
