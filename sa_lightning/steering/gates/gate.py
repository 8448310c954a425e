"""Gates: what they read of a prompt, the score they give it, and how strongly a score is steered."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

PerPrompt = Float[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Reading:
    """States of a batch of prompts, before anything is steered, in float32.

    Attributes:
        layers: Which layers they are of.
        end: At the last token of the prompt, shape (batch, layers, d_model).
        appended: The same at the last token of an appended text, if a gate asks for one.
        mean: Mean over the prompt's tokens, padding left out, if a gate asks for it.
    """

    layers: tuple[int, ...]
    end: Float[Tensor, "batch layers d_model"]
    appended: Float[Tensor, "batch layers d_model"] | None = None
    mean: Float[Tensor, "batch layers d_model"] | None = None

    def of(self, states: Tensor, layers: Sequence[int]) -> Tensor:
        """Return the states of some of the layers, in that order."""
        return states[:, [self.layers.index(layer) for layer in layers]]


@dataclass(frozen=True, eq=False)
class Gate(ABC):
    """A score for each prompt, higher where it is more harmful.

    Attributes:
        layers: Whose outputs it reads.
    """

    layers: tuple[int, ...]

    @property
    def appends(self) -> bool:
        """Whether it reads the states behind an appended text."""
        return False

    @property
    def averages(self) -> bool:
        """Whether it reads the mean over the prompt."""
        return False

    def to(self, device: torch.device) -> "Gate":
        """The same gate with its tensors on a device, so that none has to be brought there at every prompt."""
        moved = {
            item.name: value.to(device)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor | Gate)
        }
        return replace(self, **moved)

    @abstractmethod
    def __call__(self, reading: Reading) -> PerPrompt:
        """Score every prompt, on the device of its states, without waiting for it."""
