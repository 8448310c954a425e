"""How PEFT names what a checkpoint stores: the module of a tensor, and what an adapter can say of it."""

from typing import Literal, NamedTuple

__all__ = ["Kind", "Place"]

Kind = Literal["linear", "conv1d", "embedding", "tied", "whole", "fused", "none"]


class Place(NamedTuple):
    """Where a stored tensor is in the loaded model.

    Attributes:
        module: Dotted name of the module in memory.
        parameter: What the tensor is called there: `weight`, `bias`.
        kind: What the module is: a linear layer; one that is stored with its input first (`conv1d`); an embedding, or
            one that is tied to the head; one that is saved whole (a normalisation); several in one tensor, such as
            experts (`fused`); or nothing that an adapter can name.
        other: For a tied embedding: the module that it is tied to.
        parameters: What the module holds, by name in it and on disk.
    """

    module: str
    parameter: str
    kind: Kind
    other: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
