"""Which weights are these? An identity for a model in memory."""

import hashlib

import torch
from torch import nn

from sa_lightning.steering.typed import integers


def weights_fingerprint(model: nn.Module) -> str:
    """Identify a model's weights, in memory, independent of device.

    Every entry counts: per parameter, its shape, dtype, the sum of its bit patterns, and sixteen
    bytes read at even distances are hashed (SHA-256), in the order of `named_parameters`; tied ones
    count once. Names do not count, so that a prefix added by a wrapper changes nothing.
    """
    digest = hashlib.sha256()
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.detach().reshape(-1)
            width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
            bits = flat.view(width)
            sample = integers(bits[:: max(1, len(bits) // 16)].cpu())
            total = int(bits.sum(dtype=torch.int64))
            digest.update(repr((tuple(parameter.shape), str(parameter.dtype), total, sample)).encode())
    return digest.hexdigest()
