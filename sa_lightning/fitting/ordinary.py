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
from sa_lightning.steering.runtime.hooks import Stopped

KEPT = 6  # sequences whose states are kept, to measure on what steering does to them


@dataclass(frozen=True)
class OrdinaryStates:
    """States that ordinary text leaves in a model, at the site where it will be steered.

    Attributes:
        layers: Which blocks the rows below are of.
        stream: Median norm of the residual stream behind each block, over all tokens.
        site: Likewise of the output of the site.
        norms: Norms of all states at the site, float32, on the CPU.
        first: Which of these tokens are the first of a sequence.
        sequences: Some of the sequences.
        states: What each of these leaves in the stream, float32, on the CPU.
    """

    layers: Sequence[int]
    stream: Float[Tensor, " layers"]
    site: Float[Tensor, " layers"]
    norms: Float[Tensor, "layers all_tokens"]
    first: Int[Tensor, " sequences"]
    sequences: Sequence[Sequence[int]]
    states: Sequence[Float[Tensor, "layers pos d_model"]]

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
    stream, norms, kept, first, seen = [], [], [], [], 0
    for number, ids in enumerate(sequences):
        # The stream behind the last block is written last, so a forward may stop there.
        rows = run_and_read(blocks, ids, [*modules[depth:], *modules[:depth]], whole=whole)
        own, behind = rows[: len(rows) - depth] or rows, rows[-depth:]
        stream.append(torch.stack([row.norm(dim=-1) for row in behind]))
        norms.append(torch.stack([row.norm(dim=-1) for row in own]))
        if number < KEPT:
            kept.append(torch.stack(behind))
        first.append(seen)
        seen += len(ids)
    every = torch.cat(norms, 1)
    return OrdinaryStates(
        layers=range(depth),
        stream=torch.cat(stream, 1).median(1).values,
        site=every.median(1).values,
        norms=every,
        first=torch.tensor(first),
        sequences=sequences[:KEPT],
        states=kept,
    )


@torch.no_grad()
def run_and_read(
    blocks: Blocks, ids: Sequence[int], modules: Sequence[nn.Module], *, whole: bool = False
) -> list[Float[Tensor, "pos d_model"]]:
    """Run one sequence, and return what modules write, in float32, on the CPU; nothing runs behind the last of them.

    Args:
        blocks: From `locate_blocks`.
        ids: Token ids.
        modules: Whose output is a state for every token; the one that runs last stands last.
        whole: Run every layer all the same.
    """
    device = next(blocks.decoder.parameters()).device
    with capture(modules, _rows, stop=not whole) as captured, suppress(Stopped):
        blocks.decoder(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    return [value.cpu() for value in captured.values if value is not None]


def _rows(hidden: Tensor) -> Tensor:
    """The states of the only sequence, (pos, d_model), in float32."""
    return hidden.reshape(-1, hidden.shape[-1]).float().clone()
