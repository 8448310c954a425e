"""Token positions under padding: which are real, which are last."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def position_ids(mask: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    """Count real tokens from 0, so that padding on either side shifts no position.

    Needed by models with learned positions (GPT-2 is wrong by O(1) without it under left
    padding); harmless for the others. Padding gets position 0 or repeats its neighbour.

    Args:
        mask: 1 at real tokens, 0 at padding.
    """
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def last_positions(
    mask: Int[Tensor, "batch pos"], count: int = 1
) -> tuple[Int[Tensor, "batch count"], Bool[Tensor, "batch count"]]:
    """Return the indices of the last `count` real tokens of each row, latest first.

    Args:
        mask: 1 at real tokens, 0 at padding; padding may be on either side.
        count: How many tokens to take. A shorter row repeats index 0, marked invalid.

    Returns:
        Indices into the row, and which of them are real.

    Raises:
        ValueError: If a row has no real token.
    """
    real = mask.bool()
    if not bool(real.any(-1).all()):
        raise ValueError("A row without a single real token has no last position.")
    order = torch.arange(1, mask.shape[-1] + 1, device=mask.device) * real
    values, indices = order.topk(min(count, mask.shape[-1]), dim=-1)
    valid = values > 0
    return indices.masked_fill(~valid, 0), valid
