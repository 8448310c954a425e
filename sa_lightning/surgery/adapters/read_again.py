"""An adapter that was written, read again as any source is, against what was meant."""

from pathlib import Path

import torch

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.adapters.change import Change
from sa_lightning.surgery.adapters.collected import Collected
from sa_lightning.surgery.checkpoints.opening import open_checkpoint
from sa_lightning.surgery.checkpoints.slices import rows_of
from sa_lightning.surgery.selection.bracket import sample

__all__ = ["read_again"]

CHECKED = 64  # places


def read_again(path: Path, change: Change, found: Collected) -> int:
    """Open the adapter as any source is opened, and compare rows here and there with what was meant.

    Returns:
        How many rows.

    Raises:
        CheckpointError: If they differ by more than the base's type rounds.
    """
    opened = open_checkpoint(path, adapter_base=change.base.path)
    values = {**found.vectors, **{name: value for module in found.whole.values() for name, value in module.items()}}
    names = [*found.matrices, *values]
    rows = 0
    for piece in sample(names, [change.shape(name) for name in names], CHECKED):
        if piece.name in values:
            meant = rows_of(values[piece.name], piece).float()
        else:
            one = found.matrices[piece.name]
            meant = change.base_rows(piece) + one.left[piece.first : piece.last] @ one.right
        unit = torch.finfo(change.base_dtype(piece.name)).eps + 1e-5  # of sums in float32, in another order
        gap, size = float((opened.rows(piece).float() - meant).abs().max()), float(meant.abs().max())
        if not gap <= unit * size:
            raise CheckpointError(
                f"The adapter, read again, gives `{piece.name}` values that are {gap:.3g} off those of the edit.\n"
                "It would be another model.\nWrite a checkpoint (`--format checkpoint`), and report this."
            )
        rows += piece.last - piece.first
    return rows
