"""A checkpoint with adapters added to it, read as if they had been merged, some rows at a time."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointError
from sa_lightning.files import Json
from sa_lightning.source import ADAPTER_CONFIG
from sa_lightning.surgery.checkpoints.adapter import Adapter, adapts_ends
from sa_lightning.surgery.checkpoints.changes import LowRank
from sa_lightning.surgery.checkpoints.checkpoint import (
    ADAPTER_WEIGHTS,
    INPUT_EMBEDDING,
    OUTPUT_EMBEDDING,
    Checkpoint,
)
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Digests, Weights, content_fingerprint, read_whole

__all__ = ["AdaptedCheckpoint", "Added", "Sum"]

HEAD_BESIDE = re.compile(r"(^|\.)model\.(language_model\.)?embed_tokens\.weight$")


class Added(NamedTuple):
    """An adapter as it is added: how messages call it, its directory, its weight, and its adapter_config.json."""

    source: str
    path: Path
    weight: float
    settings: Json


class Sum:
    """W + Σ wᵢ (mergeᵢ(W) − W), in float32, then cast to the type of W: each adapter is merged into the plain base.

    Args:
        base: Its weights; where an adapter changes one end of a tied model, with both ends (`adapts_ends`).
        added: The adapters.
        tied: The names of these two ends.
    """

    def __init__(self, base: Weights, added: Sequence[Added], tied: tuple[str, str] | None = None) -> None:
        self.base = base
        self.adapters = [(Adapter(one.source, one.path, one.settings, base, tied), one.weight) for one in added]
        self.changed: list[str] = list(dict.fromkeys(name for adapter, _ in self.adapters for name in adapter.changed))

    def rows(self, piece: Slice) -> Tensor:
        """Some rows of the sum, in the type of the base; those of the base where no adapter acts."""
        weight = self.base.rows(piece)
        acting = [(adapter, factor) for adapter, factor in self.adapters if piece.name in adapter.changed]
        if not acting:
            return weight
        plain = weight.float()
        if len(acting) == 1 and acting[0][1] == 1:
            return acting[0][0].rows(piece, plain).to(weight.dtype)
        total = plain.clone()
        for adapter, factor in acting:
            total += factor * (adapter.rows(piece, plain) - plain)
        return total.to(weight.dtype)

    def products(self, name: str) -> list[tuple[Tensor, Tensor]] | None:
        """What is added to a tensor, as products of two matrices, where it is nothing else."""
        found: list[tuple[Tensor, Tensor]] = []
        for adapter, factor in self.adapters:
            for change in adapter.changed.get(name, ()):
                product = change.product() if isinstance(change, LowRank) else None
                if product is None:
                    return None
                found.append((factor * product[0], product[1]))
        return found


class AdaptedCheckpoint(Checkpoint):
    """A checkpoint with one or several adapters of the LoRA family merged on the fly (`Sum`).

    Names, shapes, types and configuration are those of the base; where an adapter changes the embedding or the head of
    a tied model, that has two tensors then, and says so in `config`.

    Args:
        source: How messages call it.
        base: What is changed.
        added: The adapters.
        remarks: What looks wrong about them, for people.

    Raises:
        CheckpointError: If an adapter holds what cannot be merged exactly.
        CheckpointMismatchError: If one was trained on another base.
    """

    def __init__(self, source: str, base: Checkpoint, added: Sequence[Added], remarks: Sequence[str] = ()) -> None:
        vars(self).update(vars(base))  # its layout, shards, names and configuration
        self.source, self.base, self.added = source, base, tuple(added)
        self.remarks = [*getattr(base, "remarks", ()), *remarks]
        self._fingerprint, self._digests, self._hashed = None, Digests(), []
        self._plain: Weights = base
        ends = self._tied_ends()
        if ends is not None:
            self._untie(*ends)
        self._sum = Sum(self._plain, added, ends)

    @property
    def directories(self) -> tuple[Path, ...]:
        """The base's directories, then those of the adapters, whose tokenizers win."""
        return (*self.base.directories, *(one.path for one in self.added))

    @property
    def files(self) -> tuple[Path, ...]:
        """The base's files, and those of the adapters."""
        own = (one.path / file for one in self.added for file in (ADAPTER_WEIGHTS, ADAPTER_CONFIG))
        return (*self.base.files, *own)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return self._plain.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor, from the header."""
        return self._plain.dtype(name)

    @property
    def changed(self) -> list[str]:
        """Names on disk of the tensors that the adapters change."""
        return self._sum.changed

    @property
    def plain(self) -> Weights:
        """What is changed: the base; where an adapter makes two of its tied ends, with both."""
        return self._plain

    def products(self, name: str) -> list[tuple[Tensor, Tensor]] | None:
        """What is added to a tensor, as products of two matrices in float32, (rows, rank) and (rank, columns) on disk.

        Of a tensor that changes otherwise there are none to be had: None.
        """
        return self._sum.products(name)

    def _rows(self, piece: Slice) -> Tensor:
        return self._sum.rows(piece)

    def _tied_ends(self) -> tuple[str, str] | None:
        """The names of head and embedding where they are one tensor that an adapter makes two of."""
        embeddings = [name for name in self.base.names if INPUT_EMBEDDING.search(name)]
        own_head = any(OUTPUT_EMBEDDING.search(name) for name in self.base.names)
        changing = [one for one in self.added if adapts_ends(one.path)]
        if not (changing and self.base.ties_embeddings and len(embeddings) == 1) or own_head:
            return None
        for one in changing:
            if one.settings.get("ensure_weight_tying"):
                raise CheckpointError(
                    f"{one.source} has `ensure_weight_tying`, and {self.base.source} ties its embeddings.\n"
                    "Both ends would take one change, which is read for each end here.\n"
                    "Merge it with peft's `merge_and_unload`, then give the merged checkpoint."
                )
        head = next(iter(self.base.aliases), "")
        if not head:
            match = HEAD_BESIDE.search(embeddings[0])
            head = f"{embeddings[0][: match.start()] if match else ''}{match[1] if match else ''}lm_head.weight"
        return head, embeddings[0]

    def _untie(self, head: str, embedding: str) -> None:
        self._plain = _TwoEnds(self.base, head, embedding)
        self.names = self._plain.names
        self.aliases = {}
        self.config = copy.deepcopy(self.config)
        text = self.config.get("text_config")
        for part in (self.config, *([text] if text and "tie_word_embeddings" in text else [])):
            part["tie_word_embeddings"] = False
        if not any(head in names for names in self.layout.values()):
            self.layout = {file: (*names, head) if embedding in names else names for file, names in self.layout.items()}


class _TwoEnds:
    """A tied checkpoint whose head is named apart: it has the values of the embedding."""

    def __init__(self, base: Checkpoint, head: str, embedding: str) -> None:
        self.source, self.base, self.head, self.embedding = base.source, base, head, embedding
        self.names: tuple[str, ...] = (*base.names, head)
        self.aliases: dict[str, str] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        return self.base.shape(self._stored(name))

    def dtype(self, name: str) -> torch.dtype:
        return self.base.dtype(self._stored(name))

    def rows(self, piece: Slice) -> Tensor:
        return self.base.rows(piece._replace(name=self._stored(piece.name)))

    def read(self, name: str) -> Tensor:
        return read_whole(self, name)

    def fingerprint(self) -> str:
        return content_fingerprint(self)

    def _stored(self, name: str) -> str:
        return self.embedding if name == self.head else name
