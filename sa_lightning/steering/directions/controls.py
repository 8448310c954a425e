"""Controls: what a fitted direction is compared with, so that a result counts for something.

`random` directions say what any step of this length does; `shuffled` demonstrations, what a direction does that is
fitted in the same way, on the same states, on sides that do not differ.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch

from sa_lightning.files import Json
from sa_lightning.steering.directions.paired import Directions
from sa_lightning.steering.directions.separability import FOLDS
from sa_lightning.steering.typed import integers

T = TypeVar("T")

Control = Literal["none", "random", "shuffled"]


def shuffled(pairs: Sequence[tuple[T, T]], seed: int) -> list[tuple[T, T]]:
    """Return pairs of the same members whose sides no longer tell safe from unsafe.

    Half of the pairs, drawn by the seed, change sides. Then each of them exchanges partners with one that did not:
    (a⁺, a⁻) and (b⁺, b⁻) become (a⁺, b⁺) and (b⁻, a⁻). What the sides hold, and so their means, is as after the change
    of sides alone. The exchange matters to `principal`: a squared projection has no sign, so of pairs that only change
    sides the first uncentred component is the very same axis, its sign a coin toss. Of (a⁺, b⁺) nothing but what sets
    apart answers of one side is left.

    The two pairs of an exchange lie opposite one another in what their questions say, so they stand where both are
    held out together (`separability.cross_validated`), but for the last few: one would be predicted from the other.

    Args:
        pairs: Members of both sides; of an odd number, one drawn by the seed is left out.
        seed: Of the draw; the same on every machine.
    """
    order = integers(torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)))
    twins = list(zip(order[0::2], order[1::2], strict=False))
    found: list[tuple[T, T]] = []
    for start in range(0, len(twins), FOLDS):
        block = twins[start : start + FOLDS]
        found += [(pairs[a][0], pairs[b][0]) for a, b in block] + [(pairs[b][1], pairs[a][1]) for a, b in block]
    return found


def in_words(control: Json | None) -> str | None:
    """What a recorded control of directions means, in a sentence; None where there is none."""
    if control is None:
        return None
    what = {
        "random": "its directions are drawn at random, in place of those that were fitted",
        "shuffled": "its directions were fitted on shuffled demonstrations, whose sides do not differ",
    }[control["kind"]]
    return f"{what} (seed {control['seed']})"


def random_directions(shape: Sequence[int], seed: int) -> Directions:
    """Draw unit vectors uniformly on the sphere: the control for every fitted direction.

    Args:
        shape: (layers, d_model).
        seed: The same seed gives the same vectors on every machine.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)
