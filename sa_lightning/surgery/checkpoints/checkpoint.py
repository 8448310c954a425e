"""Checkpoints on disk: safetensors in, some rows of one tensor at a time, under their on-disk names."""

import re
from pathlib import Path

import torch
from torch import Tensor

from sa_lightning.files import Json
from sa_lightning.surgery.checkpoints.shard import Shard
from sa_lightning.surgery.checkpoints.slices import Slice, slices
from sa_lightning.surgery.checkpoints.weights import Digests, content_fingerprint, read_whole, slice_digest

__all__ = ["Checkpoint"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
INPUT_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|shared)\.weight$")
OUTPUT_EMBEDDING = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")


class Checkpoint:
    """A Hugging Face checkpoint in safetensors, opened by its headers only.

    `names` are the on-disk names in file order. A tensor stored a second time because the
    configuration ties it (`lm_head.weight` and `model.embed_tokens.weight`, with equal
    content) is left out of `names` and listed in `aliases`. `layout` has every stored name,
    by file. Use `opening.open_checkpoint`.
    """

    def __init__(self, source: str, path: Path, shards: dict[str, Shard], config: Json) -> None:
        self.source = source
        self.path = path
        self.config = config
        self.metadata: dict[str, str] = {k: v for s in shards.values() for k, v in s.metadata.items()}
        self.layout: dict[str, tuple[str, ...]] = {f: tuple(s.tensors) for f, s in shards.items()}
        self._shards: dict[str, Shard] = {n: s for s in shards.values() for n in s.tensors}
        self.hashes_reads: bool = False
        self._digests = Digests()
        self._hashed: list[tuple[Slice, bytes]] = []
        self._fingerprint: str | None = None
        self.aliases: dict[str, str] = self._find_aliases()
        self.names: tuple[str, ...] = tuple(n for n in self._shards if n not in self.aliases)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return self._shards[name].tensors[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor, from the header."""
        return self._shards[name].tensors[name].dtype

    def rows(self, piece: Slice) -> Tensor:
        """Read some rows of a tensor, in its own data type, into fresh memory."""
        rows = self._rows(piece)
        if self.hashes_reads and piece.name not in self._digests.tensors:
            self._hashed.append((piece, slice_digest(rows)))
        return rows

    def hashed(self) -> list[tuple[Slice, bytes]]:
        """Slices that have been read and hashed since this was asked last, in this process, for `learn`."""
        found, self._hashed = self._hashed, []
        return found

    def learn(self, hashed: list[tuple[Slice, bytes]]) -> None:
        """Take up hashes of slices, perhaps from another process, for the fingerprint."""
        for piece, digest in hashed:
            self._digests.add(piece, self.shape(piece.name), digest)

    def read(self, name: str) -> Tensor:
        """Read one tensor, in its own data type, into fresh memory."""
        return read_whole(self, name)

    def fingerprint(self) -> str:
        """An identity of the content, independent of the shard layout. Computed once.

        What was read while `hashes_reads` was set is not read again.
        """
        if self._fingerprint is None:
            self._fingerprint = content_fingerprint(self, self._digests)
        return self._fingerprint

    def _rows(self, piece: Slice) -> Tensor:
        return self._shards[piece.name].rows(piece)

    @property
    def directories(self) -> tuple[Path, ...]:
        """Directories that are read; files beside the weights are taken from the later ones."""
        return (self.path,)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold weights."""
        return tuple(self.path / file for file in self.layout)

    @property
    def ties_embeddings(self) -> bool:
        """Whether the configuration ties input and output embeddings (its default is yes)."""
        parts: tuple[Json, ...] = (self.config, self.config.get("text_config") or {})
        flags = [part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part]
        return any(flags) if flags else True

    def _find_aliases(self) -> dict[str, str]:
        if not self.ties_embeddings:
            return {}
        inputs = [name for name in self._shards if INPUT_EMBEDDING.search(name)]
        outputs = [name for name in self._shards if OUTPUT_EMBEDDING.search(name)]
        return {
            output: name
            for output in outputs
            for name in inputs
            if (self.shape(output), self.dtype(output)) == (self.shape(name), self.dtype(name))
            and self._equal(output, name)
        }

    def _equal(self, one: str, other: str) -> bool:
        parts = slices(one, self.shape(one))
        return all(torch.equal(self._rows(piece), self._rows(piece._replace(name=other))) for piece in parts)
