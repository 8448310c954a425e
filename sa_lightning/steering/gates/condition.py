"""CAST (Lee et al., arXiv 2409.05907): a condition on the mean state of a prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.directions.separability import auroc
from sa_lightning.steering.gates.gate import Anchors, FittableGate, PerPrompt, Reading


@dataclass(frozen=True, eq=False)
class ConditionGate(FittableGate):
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

    READS: ClassVar[frozenset[str]] = frozenset({"mean"})
    COSINE: ClassVar[bool] = True

    condition: Float[Tensor, "1 d_model"]
    sign: float = 1.0

    @classmethod
    def fit(cls, layers: Sequence[int], positive: Anchors, negative: Anchors) -> "ConditionGate":
        """Take the difference of means at the layer, with the sign, by which the prompts are ranked best (AUROC)."""
        assert positive.mean is not None, "means are read where a condition is asked for"
        assert negative.mean is not None, "of both"
        differences = (positive.mean.double().mean(0) - negative.mean.double().mean(0)).float()
        best: tuple[float, int, float] = (-1.0, 0, 1.0)
        for i, layer in enumerate(layers):
            gate = cls((layer,), differences[i : i + 1])
            one, two = (gate(side.of([i]).reading([layer])).cpu() for side in (positive, negative))
            area = float(auroc(one[:, None], two[:, None])[0])
            best = max(best, (max(area, 1 - area), -i, 1.0 if area >= 0.5 else -1.0))
        i, sign = -best[1], best[2]
        return cls((layers[i],), differences[i : i + 1], sign)

    def kept(self) -> tuple[Float[Tensor, "1 d_model"], dict[str, float]]:
        """Return the condition, and the sign."""
        return self.condition, {"sign": self.sign}

    @classmethod
    def restored(
        cls, layers: Sequence[int], vectors: Float[Tensor, "1 d_model"], numbers: Mapping[str, float]
    ) -> "ConditionGate":
        """Return the gate that was `kept`."""
        return cls(tuple(layers), vectors, numbers["sign"])

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the similarities, in [0, 1], times the sign."""
        assert reading.mean is not None, "the reader has averaged what the gate asks for"
        h = reading.of(reading.mean, self.layers)[:, 0].float()
        c = torch.nn.functional.normalize(self.condition[0].to(h.device).float(), dim=0)
        along = torch.tanh((h @ c)[:, None] * c)
        return self.sign * torch.nn.functional.cosine_similarity(h, along, dim=-1).nan_to_num(nan=0.0)
