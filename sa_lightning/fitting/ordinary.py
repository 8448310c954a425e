"""What is ordinary in a model: the typical norm of its states at each layer, and which states are sinks."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sa_lightning.errors import DataError
from sa_lightning.models import Blocks
from sa_lightning.models.blocks import Site
from sa_lightning.steering import capture
from sa_lightning.steering.hooks import Stopped

MOST_TOKENS = 256  # whose states are kept, evenly spread over all that were run


@dataclass(frozen=True)
class OrdinaryStates:
    """States that ordinary text leaves in a model, at the site where it will be steered.

    Attributes:
        layers: Which blocks the rows below are of.
        stream: Median norm of the residual stream behind each block, over all tokens.
        site: Likewise of the output of the site.
        norms: Norms of all states at the site, float32, on the CPU.
        states: Some of them, evenly spread, float32, on the CPU.
        first: Which of these are the first token of a sequence.
    """

    layers: Sequence[int]
    stream: Float[Tensor, " layers"]
    site: Float[Tensor, " layers"]
    norms: Float[Tensor, "layers all_tokens"]
    states: Float[Tensor, "layers tokens d_model"]
    first: Int[Tensor, " sequences"]

    def sinks(self, multiple: float) -> tuple[int, int]:
        """Count attention sinks (tokens with a state longer than so many typical norms), and those that are first."""
        found = (self.norms > multiple * self.site[:, None]).any(0)
        return int(found.sum()), int(found[self.first].sum())


@torch.no_grad()
def ordinary_states(
    blocks: Blocks,
    sequences: Sequence[Sequence[int]],
    site: Site = "residual",
    *,
    depth: int | None = None,
    whole: bool = False,
) -> OrdinaryStates:
    """Run sequences one by one, without steering, and look at the states of every token behind every block.

    A median is what it is with sinks or without, so that none need be known before.

    Args:
        blocks: From `locate_blocks`.
        sequences: Token ids, without padding; 32 are plenty.
        site: Where the model will be steered: `residual`, `mlp` or `attention`.
        depth: How many blocks to look behind, from the first; nothing runs behind the last of them. All if not set.
        whole: Run every layer to its end, as the processes of a sharded model must.

    Returns:
        States and norms, computed in float32.

    Raises:
        DataError: If there are no sequences.
    """
    if not sequences:
        raise DataError(
            "There is no text to find the typical norm of a state on.\n"
            "The strength of a step is a fraction of it.\nGive demonstrations, or prompts."
        )
    depth = len(blocks.layers) if depth is None else depth
    modules: list[nn.Module] = [
        *blocks.at("residual")[:depth],
        *(blocks.at(site)[:depth] if site != "residual" else []),
    ]
    device = next(blocks.decoder.parameters()).device
    step = max(1, sum(map(len, sequences)) // MOST_TOKENS)
    stream, norms, kept, first, seen = [], [], [], [], 0
    for ids in sequences:
        # The stream behind the last block is written last, so a forward may stop there.
        ordered = [*modules[depth:], *modules[:depth]]
        with capture(ordered, _rows, stop=not whole) as captured, suppress(Stopped):
            blocks.decoder(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
        rows = [value for value in captured.values if value is not None]
        own = rows[: len(rows) - depth] or rows
        stream.append(torch.stack([row.norm(dim=-1).cpu() for row in rows[-depth:]]))
        norms.append(torch.stack([row.norm(dim=-1).cpu() for row in own]))
        take = [i for i in range(len(ids)) if (seen + i) % step == 0]
        kept.append(torch.stack([row[take].cpu() for row in own]))
        first.append(seen)
        seen += len(ids)
    every = torch.cat(norms, 1)
    return OrdinaryStates(
        layers=range(depth),
        stream=torch.cat(stream, 1).median(1).values,
        site=every.median(1).values,
        norms=every,
        states=torch.cat(kept, 1),
        first=torch.tensor(first),
    )


def _rows(hidden: Tensor) -> Tensor:
    """The states of the only sequence, (pos, d_model), in float32."""
    return hidden.reshape(-1, hidden.shape[-1]).float().clone()
