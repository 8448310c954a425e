"""One safetensors file: its header, some rows of a tensor read at a time, and a file written likewise.

The library `safetensors` reads through a memory map and writes a file from tensors that are all in
memory. Here: plain reads rather than a memory map: mapped pages stay resident and count as ours.
The format: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from sa_lightning.errors import CheckpointError
from sa_lightning.files import Json
from sa_lightning.surgery.checkpoints.slices import Slice, matrix, slices
from sa_lightning.surgery.checkpoints.weights import Digests, raw_bytes, slice_digest
from sa_lightning.weight_files import DTYPES, Header, read_header

__all__ = ["Shard", "shard_digest", "write_shard"]

DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}


class Shard:
    """A safetensors file, its header checked against its length, its tensors read on demand."""

    def __init__(self, path: Path, header: Header | None = None) -> None:
        self.path = path
        self._file: int | None = None  # opened when first read, and read by several threads at once
        self.tensors, self.metadata = header or read_header(path)

    def rows(self, piece: Slice) -> Tensor:
        """Read some rows of a tensor by a plain read into fresh memory, as a matrix."""
        dtype, shape, start, _ = self.tensors[piece.name]
        rows = torch.empty((piece.last - piece.first, matrix(shape)[1]), dtype=dtype)
        size = rows.numel() * dtype.itemsize
        self._read_into(raw_bytes(rows), start + piece.start * dtype.itemsize, piece.name, size)
        return rows

    def read(self, name: str) -> Tensor:
        """Read one whole tensor by a plain read into fresh memory."""
        dtype, shape, start, size = self.tensors[name]
        tensor = torch.empty(shape, dtype=dtype)
        self._read_into(raw_bytes(tensor), start, name, size)
        return tensor

    def _read_into(self, buffer: memoryview, place: int, name: str, size: int) -> None:
        done = 0
        try:
            if self._file is None:
                opened = os.open(self.path, os.O_RDONLY)  # two threads may each open it, and each is closed
                weakref.finalize(self, os.close, opened)
                self._file = opened
            while done < size and (got := os.preadv(self._file, [buffer[done:]], place + done)):
                done += got
        except OSError as error:
            raise CheckpointError(f"`{name}` cannot be read from {self.path}: {error.strerror or error}.") from error
        if done < size:
            raise CheckpointError(
                f"{self.path} ended inside `{name}`: {done} of {size} bytes are there.\n"
                "The file changed while it was read. Wait until it is complete, then try again."
            )


def write_shard(
    path: Path,
    headers: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    metadata: Mapping[str, str],
    form: Callable[[Callable[[Slice, Tensor], bytes]], Iterable[tuple[Slice, bytes]]],
) -> str:
    """Write a safetensors file slice by slice, in any order, and return the fingerprint of its content.

    It is on the disk itself only after an `os.fsync`, which is left to the caller: it can wait for it while it works.

    Args:
        path: The file.
        headers: Type and shape of each tensor, in the order of the file.
        metadata: Text to keep in the header.
        form: Is given a function that writes one slice and returns its digest (in any thread or process), and yields
            every slice with what that returned.
    """
    entries: Json = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in headers.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {
            "dtype": DTYPE_CODES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    header = len(header).to_bytes(8, "little") + header
    with path.open("wb", buffering=0) as file:
        if hasattr(os, "posix_fallocate"):
            # Refuses at once what the disk has no room for, and makes the writes below several times faster.
            os.posix_fallocate(file.fileno(), 0, len(header) + end)

        def write(piece: Slice, rows: Tensor) -> bytes:
            dtype = headers[piece.name][0]
            if (rows.dtype, rows.numel()) != (dtype, piece.count):
                raise RuntimeError(f"expected {piece} of {dtype}, got {rows.dtype} {tuple(rows.shape)}")
            place = len(header) + entries[piece.name]["data_offsets"][0] + piece.start * dtype.itemsize
            _write_at(file.fileno(), raw_bytes(rows), place)
            return slice_digest(rows)

        _write_at(file.fileno(), memoryview(header), 0)
        digests = Digests()
        for piece, digest in form(write):
            digests.add(piece, headers[piece.name][1], digest)
    missing = [name for name, (_, shape) in headers.items() if math.prod(shape) and name not in digests.tensors]
    if missing:
        raise RuntimeError(f"not all of {missing} was written to {path}")
    return content_digest(headers, digests)


def shard_digest(path: Path) -> str:
    """The fingerprint that `write_shard` returned, from the file as it is."""
    shard, digests = Shard(path), Digests()
    headers = {name: (found.dtype, found.shape) for name, found in shard.tensors.items()}
    for name, (_, shape) in headers.items():
        for piece in slices(name, shape):
            digests.add(piece, shape, slice_digest(shard.rows(piece)))
    return content_digest(headers, digests)


def content_digest(headers: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], digests: Digests) -> str:
    """An identity of names, types, shapes and content, in hex."""
    digest = xxhash.xxh3_128()
    for name, (dtype, shape) in sorted(headers.items()):
        digest.update(f"{name}\t{dtype}\t{shape}\n".encode())
        digest.update(digests.tensors.get(name, b""))
    return digest.hexdigest()


def _write_at(file: int, block: memoryview, place: int) -> None:
    done = 0
    while done < len(block):
        done += os.pwrite(file, block[done:], place + done)
