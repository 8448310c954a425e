"""Directions of unpaired prompts, by name: which kinds each is fitted on, how, and what a positive strength does.

A new one is a function, and an entry of the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.directions.null_space import null_space_map, null_space_projector
from sa_lightning.steering.directions.unpaired import PerLayer, States, refusal_directions, without

#: Kinds of prompts by what they are: to be refused; ordinary; harmless, but looking as if they were not.
HARMFUL, HARMLESS, BORDERLINE = ("harmful", "wrapped"), ("harmless",), ("borderline", "contrast")
ALL = {"harmful": HARMFUL, "harmless": HARMLESS, "borderline": BORDERLINE}


def refusal(states: Mapping[str, States]) -> PerLayer:
    """From harmless to harmful prompts, as unit vectors (`refusal_directions`)."""
    return torch.nn.functional.normalize(refusal_directions(states["harmful"], states["harmless"], unit=False), dim=-1)


def false_refusal(states: Mapping[str, States], *, orthogonal: float) -> PerLayer:
    """From harmless to borderline prompts, less what of it leads to true refusals (`without`), as unit vectors."""
    false = refusal_directions(states["borderline"], states["harmless"], unit=False)
    return without(false, refusal_directions(states["harmful"], states["harmless"], unit=False), orthogonal)


def null_space(states: Mapping[str, States], *, free: float, ridge: float) -> Float[Tensor, "layers d_model d_model"]:
    """Maps to refusal that hardly move what is harmless or borderline (`null_space_map`)."""
    towards = refusal_directions(states["harmful"], states["harmless"], unit=False)
    benign = torch.cat([states["harmless"], states["borderline"]])
    maps = [
        null_space_map(states["harmful"][:, i], towards[i], null_space_projector(benign[:, i], free), ridge)
        for i in range(len(towards))
    ]
    return torch.stack(maps)


@dataclass(frozen=True)
class Prompted:
    """A way to fit directions, or what takes their place, on prompts before they are answered.

    Attributes:
        fit: `(states, **options) -> one per layer`; the states by what the prompts are, at their last token, shape
            (prompts, layers, d_model).
        kinds: What the prompts are to it, and the kinds that are that.
        sign: Where they point, and what a positive strength does.
        intervention: That acts if none is named.
        alone: Whether it takes no other intervention, nor the direction of one layer for all.
        options: Names of the settings that `fit` is given.
    """

    fit: Callable[..., Tensor]
    kinds: Mapping[str, tuple[str, ...]]
    sign: str
    intervention: str
    alone: bool = False
    options: tuple[str, ...] = ()


PROMPTED: dict[str, Prompted] = {
    "refusal": Prompted(
        refusal,
        {"harmful": HARMFUL, "harmless": HARMLESS},
        "directions point from harmless to harmful prompts; a positive strength leads to refusal",
        "add_keep_norm",
    ),
    "false_refusal": Prompted(
        false_refusal,
        ALL,
        "directions point from harmless to borderline prompts; a positive strength leads to false refusal; of `ablate` "
        "and `match` it says how much of that is taken away",
        "ablate",
        options=("orthogonal",),
    ),
    "null_space": Prompted(
        null_space,
        ALL,
        "maps lead to where harmful prompts are refused; a positive strength leads to refusal",
        "add_mapped",
        alone=True,
        options=("free", "ridge"),
    ),
}
