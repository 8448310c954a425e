"""The edit area: where a knowledge-edited model differs from its base."""

import dataclasses

import torch

from sa_lightning.errors import NothingToDoError
from sa_lightning.surgery.checkpoints.slices import slices
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.deltas.task_vector import check_match
from sa_lightning.surgery.scope import Scope, layer_of

__all__ = ["changed_layers", "resolve"]


def resolve(scope: Scope, base: Weights, target: Weights) -> Scope:
    """Narrow a scope that asks for the edit area to the blocks that differ, and their neighbours.

    Safety Arithmetic (https://arxiv.org/abs/2406.11801, Eq. 11-12): block l is in the area if block l - 1, l
    or l + 1 differs from the base. The authors' code has the blocks 4 to 6 written in, trims within
    them, and then subtracts the untrimmed harm vector everywhere else; here all else stays bit-identical.

    Raises:
        NothingToDoError: If no block differs.
    """
    if not scope.edit_area:
        return scope
    everywhere = dataclasses.replace(scope, edit_area=False)
    changed = changed_layers(base, target, everywhere)
    if not changed:
        raise NothingToDoError(
            f"`scope.edit_area` asks for the blocks in which {target.source} differs from {base.source}, "
            "but none does.\n"
            "The edit area is where a knowledge edit has been made.\n"
            "Give the edited model with `--target`, or leave `scope.edit_area` out."
        )
    near = {block + step for block in changed for step in (-1, 0, 1)}
    return scope.within(frozenset(near & {layer_of(name) for name in everywhere.names(base)}))


def changed_layers(base: Weights, target: Weights, scope: Scope | None = None) -> frozenset[int]:
    """The blocks in which any entry of any parameter differs; the rest of a block is not read after the first."""
    scope = scope or Scope()
    check_match(base, target, scope)
    changed: set[int] = set()
    for name in scope.names(base):
        layer = layer_of(name)
        if layer is None or layer in changed:
            continue
        parts = slices(name, base.shape(name))
        if any(not torch.equal(base.rows(piece).float(), target.rows(piece).float()) for piece in parts):
            changed.add(layer)
    return frozenset(changed)
