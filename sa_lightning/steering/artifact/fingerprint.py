"""Which weights are these? An identity for a model in memory."""

import hashlib

import torch
from torch import Tensor, nn

from sa_lightning.errors import ModelError
from sa_lightning.steering.typed import integers


def weights_fingerprint(model: nn.Module) -> str:
    """Identify a model's weights, in memory, independent of device.

    Every entry counts: per parameter, its shape, dtype, the sum of its bit patterns, and sixteen
    bytes read at even distances are hashed (SHA-256), in the order of `named_parameters`; tied ones
    count once. Names do not count, so that a prefix added by a wrapper changes nothing. Where weights are packed, what
    a module's `state_dict` has beside parameters and buffers counts as well: their scales.
    """
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_meta:
                raise ModelError(
                    f"`{name}` is not in memory: {type(model).__name__} is offloaded to disk, or was never loaded.\n"
                    "Which weights these are is seen by their values, and directions belong to weights.\n"
                    "Load the model without offloading; to steer it as it is, pass `allow_other_weights=True`."
                )
            digest.update(_content(parameter))
        for module in model.modules():
            if next(module.parameters(recurse=False), None) is not None:
                known = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
                for name, value in sorted(module.state_dict().items()):
                    if name not in known and isinstance(value, Tensor):
                        digest.update(name.encode() + _content(value))
    return digest.hexdigest()


def _content(tensor: Tensor) -> bytes:
    """Shape, dtype, the sum of the bit patterns, and some of them."""
    flat = tensor.detach().reshape(-1)
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    bits = flat.view(width)
    sample = integers(bits[:: max(1, len(bits) // 16)].cpu())
    return repr((tuple(tensor.shape), str(tensor.dtype), int(bits.sum(dtype=torch.int64)), sample)).encode()
