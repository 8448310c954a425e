"""Weights, wherever they live: names, shapes, and one tensor at a time."""

import hashlib
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sa_lightning.errors import CheckpointError

__all__ = ["ModelWeights", "Weights", "fingerprint", "raw_bytes"]


@runtime_checkable
class Weights(Protocol):
    """Named tensors that are read one at a time.

    A tensor with several names (tied embeddings) has one canonical name in `names`; the
    others are keys of `aliases`, so that counting over `names` counts every entry once.
    """

    @property
    def source(self) -> str:
        """Where the weights come from, as a person would write it."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names, aliases left out."""
        ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Further names of tied tensors, each with the canonical one."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor, without reading it."""
        ...

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU. It may share memory with a live model: do not write to it."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of names, shapes, data types and content."""
        ...


class ModelWeights:
    """The weights of a model in memory, under the names of its `state_dict`.

    Parameters and persistent buffers; a tensor that the model holds under several names
    appears once, under the first. Nothing is copied.

    Args:
        model: The model whose live weights are meant.
        source: How messages and reports call it. By default its `name_or_path`, else its class.
    """

    def __init__(self, model: nn.Module, source: str | None = None) -> None:
        named = str(getattr(model, "name_or_path", "") or "")
        self.source: str = source or named or f"{type(model).__name__} in memory"
        self.aliases: dict[str, str] = {}
        self._tensors: dict[str, Tensor] = {}
        canonical: dict[tuple[object, ...], str] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_meta:
                raise CheckpointError(
                    f"`{name}` of {self.source} is on the meta device, so it has no values.\n"
                    "An edit in memory needs every weight at hand. Load the model without "
                    "offloading, or edit its checkpoint with `sa edit`."
                )
            place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
            first = canonical.setdefault(place, name) if tensor.numel() else name
            if first != name:
                self.aliases[name] = first
            else:
                self._tensors[name] = tensor
        self.names: tuple[str, ...] = tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self.parameter(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor."""
        return self.parameter(name).dtype

    def read(self, name: str) -> Tensor:
        """The tensor on the CPU; for a model on the CPU this shares its memory."""
        return self.parameter(name).detach().cpu()

    def parameter(self, name: str) -> Tensor:
        """The live tensor, on its own device, for writing in place."""
        return self._tensors[self.aliases.get(name, name)]

    def fingerprint(self) -> str:
        """SHA-256 of the weights as they are now. See `fingerprint`."""
        return fingerprint(self)


def fingerprint(weights: Weights) -> str:
    """SHA-256, in hex, of the sorted names with their shapes, data types and content.

    Independent of the shard layout and of tied tensors stored twice, so a model loaded in the
    checkpoint's own data type has the checkpoint's fingerprint. Reads one tensor at a time.
    """
    digest = hashlib.sha256()
    for name in sorted(weights.names):
        tensor = weights.read(name)
        digest.update(f"{name}\t{tensor.dtype}\t{tuple(tensor.shape)}\n".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a CPU tensor in row-major order, without a copy where it is contiguous."""
    if tensor.numel() == 0:
        return memoryview(b"")
    return memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
