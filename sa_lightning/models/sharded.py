"""Load a model that no single device can hold, its blocks split over the processes (FSDP2)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from sa_lightning.models.as_asked import auto_class
from sa_lightning.models.blocks import locate_blocks


def load_sharded(
    load: Callable[[], PreTrainedModel],
    mesh: DeviceMesh,
    device: torch.device,
    identify: Callable[[PreTrainedModel], str],
    blocks: str | None = None,
) -> tuple[PreTrainedModel, str]:
    """Load in the first process, and hand every process its part of the decoder.

    The first process holds the whole model once, on its host, while it is handed out; no device ever does. What
    lies outside the decoder, the LM head, stays on the `meta` device: it cannot run.

    Args:
        load: Loads the whole model on the host; called in the first process alone.
        mesh: One-dimensional mesh of all processes.
        device: Of this process.
        identify: Called with the whole model in the first process, such as a fingerprint of its weights.
        blocks: Path of the decoder blocks, where they are not found by their number.

    Returns:
        The model, and what `identify` said, in every process.
    """
    first = dist.get_rank() == 0
    whole = load() if first else None
    said: list[Any] = [None, None] if whole is None else [whole.config, identify(whole)]
    dist.broadcast_object_list(said, 0)
    config, identity = said
    with torch.device("meta"):
        model: Any = auto_class(config).from_config(config, dtype=config.dtype)
    model.requires_grad_(False).eval()
    found = locate_blocks(model, blocks)
    for layer in found.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(found.decoder, mesh=mesh)
    found.decoder.to_empty(device=device)
    source: Any = None if whole is None else locate_blocks(whole, blocks).decoder
    set_model_state_dict(
        found.decoder,
        {} if source is None else source.state_dict(),
        options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
    )
    # Buffers that no checkpoint has, such as rotary frequencies, are small: everyone has them whole.
    values = {} if source is None else dict(source.named_buffers())
    for name, buffer in found.decoder.named_buffers():
        if first:
            buffer.copy_(values[name])
        dist.broadcast(buffer, 0)
    return model, identity
