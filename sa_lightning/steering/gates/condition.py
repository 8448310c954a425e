"""CAST (Lee et al., arXiv 2409.05907): a condition on the mean state of a prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.gates.gate import Gate, PerPrompt, Reading


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

    @property
    def averages(self) -> bool:
        """It does."""
        return True

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the similarities, in [0, 1], times the sign."""
        assert reading.mean is not None, "the reader has averaged what the gate asks for"
        h = reading.of(reading.mean, self.layers)[:, 0].float()
        c = torch.nn.functional.normalize(self.condition[0].to(h.device).float(), dim=0)
        along = torch.tanh((h @ c)[:, None] * c)
        return self.sign * torch.nn.functional.cosine_similarity(h, along, dim=-1).nan_to_num(nan=0.0)
