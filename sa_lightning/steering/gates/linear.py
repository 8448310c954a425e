"""A two-class gate: Fisher's discriminant over the states of a few layers, with thresholds set on held-out prompts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering.directions.probe import whitened
from sa_lightning.steering.gates.gate import Anchors, FittableGate, PerPrompt, Reading

States = Float[Tensor, "prompts layers d_model"]


@dataclass(frozen=True, eq=False)
class LinearGate(FittableGate):
    """Σ over layers of weight · state, plus a bias: 1 at the mean of harmful prompts, −1 at that of the others.

    Attributes:
        layers: Whose states are read, at the last token of the prompt.
        weight: Of each layer, shape (layers, d_model).
        bias: Added to the sum.
    """

    weight: Float[Tensor, "layers d_model"]
    bias: float

    @classmethod
    def fit(cls, layers: Sequence[int], positive: Anchors, negative: Anchors) -> "LinearGate":
        """Fit the discriminant (`fit_linear_gate`)."""
        return fit_linear_gate(positive.end, negative.end, layers)

    def kept(self) -> tuple[Float[Tensor, "layers d_model"], dict[str, float]]:
        """Return the weights, and the bias."""
        return self.weight, {"bias": self.bias}

    @classmethod
    def restored(
        cls, layers: Sequence[int], vectors: Float[Tensor, "layers d_model"], numbers: Mapping[str, float]
    ) -> "LinearGate":
        """Return the gate that was `kept`."""
        return cls(tuple(layers), vectors, numbers["bias"])

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the scores, of any size."""
        states = reading.of(reading.end, self.layers)
        return (states * self.weight.to(states.device, states.dtype)).sum((-1, -2)) + self.bias


def fit_linear_gate(
    harmful: States, others: Float[Tensor, "others layers d_model"], layers: Sequence[int]
) -> LinearGate:
    """Fit the discriminant Σ⁻¹ (μ_harmful − μ_others) on the states of all layers laid end to end.

    Each layer is divided by the root mean square of its entries first, so that late layers, whose states are long, do
    not outweigh the others; the covariance is shrunk (`probe.whitened`). In float64.

    Args:
        harmful: States of harmful prompts, of these layers.
        others: Those of prompts that are to be answered; they count as one class, however many kinds there are.
        layers: Their numbers.

    Raises:
        DataError: If there are fewer than two of a class, or the two cannot be told apart.
    """
    if min(len(harmful), len(others)) < 2:
        raise DataError(
            f"A gate is fitted on {len(harmful)} harmful and {len(others)} other prompts.\n"
            "A class needs two prompts at least, better some dozens.\nGive more prompts."
        )
    if not (bool(torch.isfinite(harmful).all()) and bool(torch.isfinite(others).all())):
        raise DataError(
            "States of prompts for the gate are not finite.\nA mean over them would be none.\n"
            "Load the model in a wider type: `--model.dtype bfloat16` or `float32`."
        )
    both = torch.cat([harmful, others]).double()
    size = both.square().mean((0, 2)).sqrt().clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    a, b = ((side.double() / size).flatten(1)[:, None] for side in (harmful, others))
    weight = whitened(a, b)[0]
    high, low = float(a.mean(0)[0] @ weight), float(b.mean(0)[0] @ weight)
    half = (high - low) / 2
    if not half > 0:
        raise DataError(
            "Harmful and other prompts have the same mean state, so no gate can tell them apart.\n"
            "Are the two sets of prompts the same?\nGive prompts of both kinds, or other layers."
        )
    weight = (weight / half).view(len(layers), -1) / size
    return LinearGate(tuple(layers), weight.float(), -(high + low) / 2 / half)


def threshold_at_recall(scores: Float[Tensor, " prompts"], recall: float) -> float:
    """Return the largest threshold that at least this share of harmful prompts reaches.

    The threshold is itself one of the scores, so that the prompt that has it is taken for harmful. Set it on prompts
    that the gate was not fitted on. A recall of 1 is the smallest score.

    Args:
        scores: Of held-out harmful prompts.
        recall: In (0, 1].

    Raises:
        SettingError: If `recall` lies outside, or there are too few prompts to set so high a recall: one in a hundred
            cannot be found among fifty.
        DataError: If a score is not a number.

    Example:
        >>> threshold_at_recall(torch.tensor([0.1, 0.9, 0.5, 0.7]), 0.75)
        0.5
    """
    if not 0 < recall <= 1:
        raise SettingError(
            f"The recall is the share of harmful prompts that are found, in (0, 1], but is {recall}.\n"
            "At 0 nothing would ever be found.\nFor 98 percent, write 0.98."
        )
    if not len(scores) or not bool(torch.isfinite(scores).all()):
        raise DataError(
            f"There are {len(scores)} scores of harmful prompts, not all of them finite.\n"
            "A threshold is set where enough of them lie above it.\nGive held-out harmful prompts."
        )
    check_recall(len(scores), recall)
    ordered = scores.sort().values
    return float(ordered[len(scores) - math.ceil(recall * len(scores) - 1e-9)])


def check_recall(count: int, recall: float) -> None:
    """Refuse a recall below 1 that so many held-out prompts cannot tell from 1.

    Raises:
        SettingError: With how many it takes.
    """
    if recall < 1 and count * (1 - recall) < 1 - 1e-9:
        raise SettingError(
            f"A recall of {recall} leaves less than one of {count} prompts below the threshold.\n"
            "So few prompts cannot tell it from 1.\n"
            f"Give at least {math.ceil(1 / (1 - recall) - 1e-9)} held-out ones, or ask for 1."
        )


def threshold_between(positive: Float[Tensor, " prompts"], negative: Float[Tensor, " others"], recall: float) -> float:
    """Return a threshold that enough prompts reach, no higher than it need be for the others that stay below it.

    Where `threshold_at_recall` leaves room below itself, with none of the others in it, the threshold goes to the
    middle between the highest score of the others beneath and the lowest of a prompt to be found above that: more are
    found, and not one more of the others. Errors are those of `threshold_at_recall`.

    Example:
        >>> threshold_between(torch.tensor([2.0, 3.0, 4.0, 5.0]), torch.tensor([0.0, 1.0]), 0.5)
        1.5
    """
    at = threshold_at_recall(positive, recall)
    below = negative[negative < at]
    if not len(below):
        return at
    highest = float(below.max())
    return (highest + float(positive[positive > highest].min())) / 2
