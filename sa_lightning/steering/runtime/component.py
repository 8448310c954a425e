"""One way to steer, weighted row by row by what a gate decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa_lightning.steering.gates.gate import Gate
from sa_lightning.steering.gates.policy import Policy
from sa_lightning.steering.intervention import Step


class GatedStep(nn.Module):
    """A step whose strength is weighted row by row; a row of weight 0, and all before a decision, stay as they are.

    Args:
        step: What is done at weight 1.
    """

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.weights: Tensor | None = None
        self.steered: Tensor | None = None  # which tokens may be, (batch, pos), where not all that run may

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the moved states; of shape (batch, pos, d_model), or the first two flattened."""
        if self.weights is None:
            return hidden
        rows = self.weights.repeat_interleave(hidden.shape[0] // len(self.weights))
        rows = rows.to(hidden.device).view(-1, *[1] * (hidden.dim() - 1))
        changed = self.step(hidden, rows)
        still = rows == 0
        if self.steered is not None:
            still = still | ~self.steered.to(hidden.device).view(*hidden.shape[:-1], 1)
        return torch.where(still, hidden, changed)


@dataclass(eq=False)
class Component:
    """One way to steer, with what decides about it.

    Attributes:
        gate: Scores prompts.
        policy: From a score to a weight of the steps' strengths.
        steps: Modules and what is done to their outputs.
        only_prompt: Whether it acts on no token of the reply.
        whole_prompt: Whether it acts on all tokens of the prompt, which takes a second prefill where a gate reads it,
            in place of the last one.
    """

    gate: Gate
    policy: Policy
    steps: Sequence[tuple[nn.Module, Step]]
    only_prompt: bool = False
    whole_prompt: bool = False
    gated: list[tuple[nn.Module, GatedStep]] = field(init=False)

    def __post_init__(self) -> None:
        """Put weights before the steps."""
        self.gated = [(module, GatedStep(step)) for module, step in self.steps]

    def set(self, weights: Float[Tensor, " batch"] | None, steered: Tensor | None = None) -> None:
        """Steer with these weights from now on, some tokens alone where it is said which; with none, not at all."""
        for _, step in self.gated:
            step.weights, step.steered = weights, steered
