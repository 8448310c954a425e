"""Checkpoints of one model whose tools spell its names differently: one is read under the names of the other."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.weight_files import PREFIX

__all__ = ["Respelled", "spelled_like"]


class Respelled(Checkpoint):
    """A checkpoint under other names for its tensors; all else, its fingerprint too, is its own.

    Args:
        checkpoint: The checkpoint.
        names: Its own names, by those that it goes by here; the others stay as they are.
    """

    def __init__(self, checkpoint: Checkpoint, names: dict[str, str]) -> None:
        vars(self).update(vars(checkpoint))
        self._own, self._names = checkpoint, names
        new = {own: name for name, own in names.items()}
        self.names = tuple(new.get(name, name) for name in checkpoint.names)
        self.aliases = {new.get(a, a): new.get(b, b) for a, b in checkpoint.aliases.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return self._own.shape(self._names.get(name, name))

    def dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor, from the header."""
        return self._own.dtype(self._names.get(name, name))

    def rows(self, piece: Slice) -> Tensor:
        """Read some rows of a tensor, in its own data type, into fresh memory."""
        self._own.hashes_reads = self.hashes_reads
        return self._own.rows(piece._replace(name=self._names.get(piece.name, piece.name)))

    def hashed(self) -> list[tuple[Slice, bytes]]:
        """As of the checkpoint."""
        return self._own.hashed()

    def learn(self, hashed: list[tuple[Slice, bytes]]) -> None:
        """As of the checkpoint."""
        self._own.learn(hashed)

    def fingerprint(self) -> str:
        """As of the checkpoint, under its own names."""
        return self._own.fingerprint()

    @property
    def directories(self) -> tuple[Path, ...]:
        """As of the checkpoint."""
        return self._own.directories

    @property
    def files(self) -> tuple[Path, ...]:
        """As of the checkpoint."""
        return self._own.files


def spelled_like(checkpoint: Checkpoint, other: Checkpoint) -> Checkpoint:
    """Return a checkpoint under the names of another, where they differ in a prefix alone; itself if in none.

    So a fine-tune `transformer.h.0…` is compared with a base `h.0…` that was saved without its head, and a text model
    `model.layers.0…` with the multimodal one that has it as `language_model.model.layers.0…`.
    """
    known, theirs = {*checkpoint.names, *checkpoint.aliases}, {*other.names, *other.aliases}
    own, wanted = _by_core(known - theirs), _by_core(theirs - known)
    names = {wanted[core]: name for core, name in own.items() if core in wanted}
    return Respelled(checkpoint, names) if names else checkpoint


def _by_core(names: Iterable[str]) -> dict[str, str]:
    """Names by what they are without their prefix; none that two share."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(PREFIX.sub("", name), []).append(name)
    return {core: same[0] for core, same in found.items() if len(same) == 1}
