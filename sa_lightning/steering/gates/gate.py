"""Gates: what they read of a prompt, and the score they give it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
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


class Anchors(NamedTuple):
    """States of prompts of one class, which a gate is fitted on.

    Attributes:
        end: At the last token.
        held: Which of them are held out where a threshold is set: variants of one another on the same side.
        appended: At the last token of the appended word.
        mean: Means over the prompt.
    """

    end: Float[Tensor, "prompts layers d_model"]
    held: Bool[Tensor, " prompts"]
    appended: Float[Tensor, "prompts layers d_model"] | None = None
    mean: Float[Tensor, "prompts layers d_model"] | None = None

    def rows(self, chosen: Bool[Tensor, " prompts"]) -> "Anchors":
        """Some of the prompts."""
        end, held, *others = self
        return Anchors(end[chosen], held[chosen], *(None if states is None else states[chosen] for states in others))

    def of(self, index: Sequence[int]) -> "Anchors":
        """Some of the layers."""
        end, held, *others = self
        where = list(index)
        return Anchors(end[:, where], held, *(None if states is None else states[:, where] for states in others))

    def and_(self, other: "Anchors") -> "Anchors":
        """These prompts, and others behind them."""
        pairs = zip(self[2:], other[2:], strict=True)
        both = (None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)
        return Anchors(torch.cat([self.end, other.end]), torch.cat([self.held, other.held]), *both)

    def reading(self, layers: Sequence[int]) -> Reading:
        """What a gate is given."""
        return Reading(tuple(layers), self.end, self.appended, self.mean)


@dataclass(frozen=True, eq=False)
class Gate(ABC):
    """A score for each prompt, higher where it is more like those that the gate is to find.

    Attributes:
        layers: Whose outputs it reads.
    """

    #: What it reads of a prompt besides the states at its end: `appended`, `mean`.
    READS: ClassVar[frozenset[str]] = frozenset()

    layers: tuple[int, ...]

    @property
    def reads(self) -> frozenset[str]:
        """`READS`, or what the gates that it is made of read."""
        return self.READS

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


class FittableGate(Gate):
    """A gate with a name in the table `GATES`: it knows how it is fitted, and what of it is kept."""

    #: Whether its scores are cosines, in [−1, 1].
    COSINE: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def fit(cls, layers: Sequence[int], positive: Anchors, negative: Anchors) -> "FittableGate":
        """Fit it on prompts to be found and on others; it may read fewer layers than these.

        Args:
            layers: Which the states are of.
            positive: States of prompts that are to have high scores.
            negative: Those of the others.

        Raises:
            DataError: If nothing tells the two apart.
        """

    @abstractmethod
    def kept(self) -> tuple[Float[Tensor, "layers d_model"], dict[str, float]]:
        """Return all that `restored` needs: a vector per layer, and numbers."""

    @classmethod
    @abstractmethod
    def restored(
        cls, layers: Sequence[int], vectors: Float[Tensor, "layers d_model"], numbers: Mapping[str, float]
    ) -> "FittableGate":
        """Return the gate that was `kept`."""
