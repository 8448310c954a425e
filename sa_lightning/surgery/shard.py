"""One safetensors file: its header, one tensor read at a time, and a file written likewise.

Plain reads rather than a memory map: mapped pages stay resident and count as ours.
The format: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.weights import raw_bytes

__all__ = ["Shard", "TensorHeader", "write_shard"]

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000  # the bound of the format


class TensorHeader(NamedTuple):
    """Shape and type of one tensor, and where its bytes lie in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


class Shard:
    """A safetensors file, its header checked against its length, its tensors read on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        try:
            self.tensors: dict[str, TensorHeader] = self._read_header()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is not a whole safetensors file: {error}.\n"
                "It was probably cut off while it was written or downloaded. Fetch it again."
            ) from error

    def _read_header(self) -> dict[str, TensorHeader]:
        total = self.path.stat().st_size
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if total < 8 or length > min(total - 8, LONGEST_HEADER):
                raise ValueError(f"its header would need {length} bytes, but the file has {total}")
            entries: dict[str, Any] = json.loads(file.read(length))
        self.metadata = entries.pop("__metadata__", None) or {}
        data = 8 + length
        tensors: dict[str, TensorHeader] = {}
        by_place = sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
        end = data
        for name, entry in by_place:
            if entry["dtype"] not in DTYPES:
                raise ValueError(f"`{name}` has the unknown data type {entry['dtype']}")
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            start, stop = (data + offset for offset in entry["data_offsets"])
            if start != end or stop - start != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"`{name}` does not have the place that its shape {shape} needs")
            tensors[name] = TensorHeader(dtype, shape, start, stop - start)
            end = stop
        if end != total:
            raise ValueError(f"its tensors need {end} bytes, but the file has {total}")
        return tensors

    def read(self, name: str) -> Tensor:
        """Read one tensor by a plain read into fresh memory."""
        dtype, shape, start, size = self.tensors[name]
        if size == 0:
            return torch.empty(shape, dtype=dtype)
        buffer = bytearray(size)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                view, done = memoryview(buffer), 0
                while done < size and (got := file.readinto(view[done:])):
                    done += got
        except OSError as error:
            raise CheckpointError(f"`{name}` cannot be read from {self.path}: {error.strerror or error}.") from error
        if done < size:
            raise CheckpointError(
                f"{self.path} ended inside `{name}`: {done} of its {size} bytes are there.\n"
                "The file changed while it was read. Wait until it is complete, then try again."
            )
        return torch.frombuffer(buffer, dtype=dtype).reshape(shape)


def write_shard(
    path: Path,
    headers: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> int:
    """Write a safetensors file one tensor at a time, and return the bytes of its tensors.

    Args:
        path: The file.
        headers: Type and shape of each tensor, in the order in which they are written.
        tensors: The tensors, in that order.
        metadata: Text to keep in the header.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
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
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for (name, (dtype, shape)), (given, tensor) in zip(headers.items(), tensors, strict=True):
            if (given, tensor.dtype, tuple(tensor.shape)) != (name, dtype, shape):
                raise RuntimeError(f"expected `{name}` {dtype} {shape}, got `{given}` {tensor}")
            file.write(raw_bytes(tensor))
        file.flush()
        os.fsync(file.fileno())
    return end
