"""CAST (Lee et al., arXiv 2409.05907): conditions on the mean state of a prompt, alone or joined by AND and OR."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.steering.gate import Gate, PerPrompt, Policy, Reading


@dataclass(frozen=True, eq=False)
class ConditionGate(Gate):
    """How alike the mean state of a prompt is to what of it lies along a condition vector: cos(h, tanh(proj_c h)).

    CAST, Eq. 3, with the tanh of its code (IBM/activation-steering); h is the mean over all tokens of the prompt at one
    layer, padding left out. The projection points the way h does, so that it says how much of h lies along c, and not
    on which side. Which side of a threshold counts is a policy: CAST compares with > or <, whichever separates its
    training prompts. A zero state gives 0.

    Attributes:
        layers: The one layer that is read.
        condition: The vector c, of any length, shape (1, d_model).
        sign: −1 where less alike means harmful.
    """

    condition: Float[Tensor, "1 d_model"]
    sign: float = 1.0
    averages: ClassVar[bool] = True

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the similarities, in [0, 1], times the sign."""
        assert reading.mean is not None, "the reader has averaged what the gate asks for"
        h = reading.of(reading.mean, self.layers)[:, 0].float()
        c = torch.nn.functional.normalize(self.condition[0].to(h.device).float(), dim=0)
        along = torch.tanh((h @ c)[:, None] * c)
        return self.sign * torch.nn.functional.cosine_similarity(h, along, dim=-1).nan_to_num(nan=0.0)


@dataclass(frozen=True, eq=False)
class Joined(Gate):
    """Several conditions as one: with `every`, the least of their weights (AND), else the largest (OR).

    Attributes:
        layers: Those of its parts.
        parts: Gates with their policies, whose weights are 0 or 1.
        every: Whether all must hold.
    """

    parts: tuple[tuple[Gate, Policy], ...]
    every: bool

    @classmethod
    def of(cls, parts: Sequence[tuple[Gate, Policy]], every: bool) -> "Joined":
        """Join some gates.

        Raises:
            SettingError: If there are none, or one's weights are not those of a condition.
        """
        weights = {band.weight for _, policy in parts for band in policy.bands}
        if not parts or not weights <= {0.0, 1.0}:
            raise SettingError(
                f"Conditions with weights {sorted(weights)} are joined.\n"
                "A condition holds (1) or not (0).\nGive each a policy with these weights."
            )
        layers = sorted({layer for gate, _ in parts for layer in gate.layers})
        return cls(tuple(layers), tuple(parts), every)

    @property
    def appends(self) -> bool:  # type: ignore[override]  # of its parts
        """Whether a part reads behind an appended text."""
        return any(gate.appends for gate, _ in self.parts)

    @property
    def averages(self) -> bool:  # type: ignore[override]  # of its parts
        """Whether a part reads the mean over the prompt."""
        return any(gate.averages for gate, _ in self.parts)

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return 1 where the conditions hold, 0 elsewhere."""
        weights = torch.stack([policy.weights(gate(reading)) for gate, policy in self.parts])
        return weights.amin(0) if self.every else weights.amax(0)
