"""The ways of selecting, by the names that `select` has for them."""

from typing import TYPE_CHECKING, Literal

import torch

from sa_lightning.surgery.selection.dare import DARE
from sa_lightning.surgery.selection.heads import HEADS
from sa_lightning.surgery.selection.kind import Saliency, SelectionKind, ranked
from sa_lightning.surgery.selection.ranking import ByFisher, ByMagnitude, ByRandom, ByScore

__all__ = ["SELECTIONS", "Select", "scored_names"]

MAGNITUDE = SelectionKind(ranked(lambda asked: ByMagnitude()))
RANDOM = SelectionKind(
    ranked(lambda asked: ByRandom(asked.seed)), reads_delta=False, control="entries are drawn at random"
)
SNIP = SelectionKind(
    ranked(lambda asked: ByScore(asked.known_scores)),
    saliency=Saliency(torch.abs, lambda mean, weights: mean * weights.abs()),
    reads_delta=False,
)
FISHER = SelectionKind(
    ranked(lambda asked: ByFisher(asked.known_scores)),
    saliency=Saliency(torch.square, lambda mean, weights: mean.sqrt()),
)

SELECTIONS: dict[str, SelectionKind] = {
    "magnitude": MAGNITUDE,
    "random": RANDOM,
    "dare": DARE,
    "snip": SNIP,
    "fisher": FISHER,
    "heads": HEADS,
}

if TYPE_CHECKING:
    Select = str
else:
    Select = Literal[tuple(SELECTIONS)]  # the choices of options are the rows


def scored_names() -> list[str]:
    """The names of those that rank by scores of weights."""
    return [name for name, kind in SELECTIONS.items() if kind.saliency is not None]
