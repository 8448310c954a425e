"""What a way of selecting is: what it needs, what it gets, and how it chooses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.scope import Granularity
from sa_lightning.surgery.selection.ranking import Ranking
from sa_lightning.surgery.selection.top_k import Chosen, Ties, select

__all__ = ["Asked", "Saliency", "SelectionKind", "ranked"]


@dataclass(frozen=True)
class Asked:
    """What a selection gets besides the delta; the settings as of `EditSettings`.

    Attributes:
        scores: Of every entry in scope, where the kind has a saliency.
        config: The target's `config.json`.
        progress: Told how far each pass has come.
    """

    density: float = 1.0
    granularity: Granularity = "global"
    ties: Ties = "split"
    seed: int = 0
    heads: Mapping[int, Sequence[int]] = field(default_factory=dict[int, Sequence[int]])
    scores: Weights | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    progress: Progress | None = None

    @property
    def known_scores(self) -> Weights:
        """The scores, of a kind that has a saliency."""
        assert self.scores is not None
        return self.scores


@dataclass(frozen=True)
class Saliency:
    """A way from gradients to scores of weights.

    Attributes:
        each: Of the gradient of an example's loss: what is averaged over examples.
        score: Of that mean and the weights: the score.
    """

    each: Callable[[Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SelectionKind:
    """A way to select entries of a delta: a row of `SELECTIONS`.

    Attributes:
        choose: Returns what is kept of a delta.
        setting: The setting of `EditSettings` that says what is kept, in place of a density; with an `example`.
        saliency: What it ranks by, where that is scores of weights on prompts.
        reads_delta: Whether the delta decides.
        rescales: Whether kept entries are multiplied, which means something for a step alone.
        control: What makes it a control, in words; None for a method.
    """

    choose: Callable[[Delta, Asked], Chosen]
    setting: str | None = None
    example: str = ""
    saliency: Saliency | None = None
    reads_delta: bool = True
    rescales: bool = False
    control: str | None = None


def ranked(ranking: Callable[[Asked], Ranking]) -> Callable[[Delta, Asked], Chosen]:
    """Choose the entries that a ranking puts highest: see `select`."""

    def choose(delta: Delta, asked: Asked) -> Chosen:
        return select(
            delta,
            density=asked.density,
            ranking=ranking(asked),
            granularity=asked.granularity,
            ties=asked.ties,
            seed=asked.seed,
            progress=asked.progress,
        )

    return choose
