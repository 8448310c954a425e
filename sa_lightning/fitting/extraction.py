"""Extraction: the states of a model at some positions of some passages, and no work beyond that."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache

from sa_lightning.errors import DataError, ModelError, SettingError
from sa_lightning.models import (
    Blocks,
    Passage,
    PassageBatch,
    PassagePair,
    collate,
    locate_blocks,
    plan_batches,
    position_ids,
)
from sa_lightning.models.batches import Group, common_prefix
from sa_lightning.models.blocks import Site
from sa_lightning.steering import PairStates, capture, gather_mean
from sa_lightning.steering.runtime.hooks import Stopped

States = Float[Tensor, "passages layers d_model"]


class StateReader:
    """Run the decoder over batches of passages, and read its states at their positions.

    The LM head never runs, nor does anything behind the last layer that is read; states are gathered on the
    device, in float32. A batch that does not fit in memory is halved, and so are later ones as large. Where rotary
    frequencies change with the length of a batch (dynamic NTK, LongRoPE), the sequences of one that is longer run one
    by one, without padding.

    Args:
        model: A causal language model.
        blocks: From `locate_blocks`.
        site: `residual`, `mlp` or `attention`.
        layers: Which blocks to read, from the first to the last; all if not set.
        whole: Run every layer and every batch as it is: for sharded models, whose processes must all run the
            same forwards.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Blocks,
        site: Site = "residual",
        layers: Sequence[int] | None = None,
        whole: bool = False,
    ) -> None:
        self.model = model
        self.decoder = blocks.decoder
        self.config: Any = model.config
        modules = blocks.at(site)
        if layers is not None and not (layers and list(layers) == sorted(set(layers) & set(range(len(modules))))):
            raise SettingError(
                f"`layers` are {list(layers)}, of a model with layers 0 to {len(modules) - 1}.\n"
                "States come back in the order in which layers run.\nName each once, from the first to the last."
            )
        self.modules = modules if layers is None else [modules[layer] for layer in layers]
        self.whole = whole
        self.longest = _longest_with_the_same_frequencies(self.config)
        self.most_tokens: int | None = None
        parameters = inspect.signature(self.decoder.forward).parameters
        self._positions = "position_ids" in parameters
        self._cache = "cache" if "cache" in parameters else "past_key_values"  # transformers renamed it in 5.2x

    @torch.no_grad()
    def __call__(self, batch: PassageBatch) -> States:
        """Return the states of the first members of all groups, then of the second ones, in the order of the batch.

        Raises:
            ModelError: If a single group does not fit in memory.
        """
        if self.most_tokens is not None and batch.tokens > self.most_tokens and len(batch) > 1:
            return self._in_parts(batch, -(-batch.tokens // self.most_tokens))
        try:
            return self._read(batch)
        except RuntimeError as error:
            if self.whole or not _out_of_memory(error):
                raise
            message = str(error).splitlines()[0]
        # Out of the handler, so that what the failed forward held is free.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            what = "A pair" if batch.members > 1 else "A prompt"
            raise ModelError(
                f"{what} of {batch.tokens} tokens does not fit in memory: {message}\n"
                "A batch of one cannot be halved.\n"
                "Cut long conversations with `--data.max_length`, read fewer layers, or split the model: "
                "`--trainer.strategy sharded`."
            )
        self.most_tokens = batch.tokens // 2
        return self._in_parts(batch, 2)

    def _in_parts(self, batch: PassageBatch, count: int) -> States:
        parts = [self(part).chunk(batch.members) for part in batch.chunks(min(count, len(batch)))]
        return torch.cat([torch.cat(side) for side in zip(*parts, strict=True)])

    def _read(self, batch: PassageBatch) -> States:
        context: dict[str, Any] = {"use_cache": False}
        if batch.prefix is not None:
            context = self._after_prefixes(batch)
        elif self.longest is not None and batch.input_ids.shape[1] > self.longest and not self.whole:
            return self._one_by_one(batch)
        read = partial(gather_mean, positions=batch.read, valid=batch.valid)
        with capture(self.modules, read, stop=not self.whole) as captured:
            self._run(batch.input_ids, **context)
        return captured.stacked()

    def _one_by_one(self, batch: PassageBatch) -> States:
        """Run every sequence by itself, up to the last token that is read."""
        found = []
        for ids, read, valid in zip(batch.input_ids, batch.read, batch.valid, strict=True):
            gather = partial(gather_mean, positions=read[None], valid=valid[None])
            with capture(self.modules, gather, stop=True) as captured:
                self._run(ids[None, : int(read.max()) + 1], use_cache=False)
            found.append(captured.stacked())
        return torch.cat(found)

    def _after_prefixes(self, batch: PassageBatch) -> dict[str, Any]:
        """Run the common prefixes once; what all suffixes need to go on from their keys and values."""
        mask, suffix = batch.prefix_mask, batch.suffix_mask
        assert mask is not None
        assert suffix is not None
        cache = DynamicCache(config=self.config.get_text_config(decoder=True))
        with capture(self.modules[-1:], lambda hidden: hidden[:0, 0], stop=not self.whole):
            self._run(batch.prefix, attention_mask=mask, position_ids=position_ids(mask), use_cache=True, cache=cache)
        rows = torch.arange(len(batch), device=mask.device).repeat(batch.members)
        cache.batch_select_indices(rows)
        return {
            "attention_mask": torch.cat([mask[rows], suffix], -1),
            "position_ids": mask.sum(-1)[rows][:, None] + position_ids(suffix),
            "use_cache": True,
            "cache": cache,
        }

    def _run(self, tokens: Tensor | None, **inputs: Any) -> None:
        if not self._positions:
            inputs.pop("position_ids", None)
        if "cache" in inputs:
            inputs[self._cache] = inputs.pop("cache")
        with suppress(Stopped):
            self.decoder(input_ids=tokens, **inputs)


def why_not_share(reader: StateReader, pair: Group) -> str | None:
    """Say why the keys and values of a common beginning cannot be gone on from, found out on one pair that has one.

    Returns:
        The reason, or None where the states are the same as without sharing: to 0.1 % of the largest, in half
        precision to 5 %.
    """
    if getattr(reader.model, "_is_stateful", False):
        return "it carries a state of its own"
    weight = next(reader.decoder.parameters())
    apart = reader(collate([pair], [0], [True], share=False).to(weight.device))
    try:
        shared = reader(collate([pair], [0], [True], share=True).to(weight.device))
    except Exception as error:  # whatever a family's own code raises for a cache that it does not know
        return f"it ends with {type(error).__name__}: {error}"
    allowed = 0.05 if weight.dtype in (torch.bfloat16, torch.float16) else 1e-3
    off = float((shared - apart).abs().max() / apart.abs().max())
    return None if off <= allowed else f"what it reads then differs by {off:.2g} of the largest entry"


def extract(
    model: nn.Module,
    pairs: Sequence[PassagePair],
    *,
    site: Site = "residual",
    layers: Sequence[int] | None = None,
    batch_tokens: int | None = None,
    share_prefixes: bool | None = None,
    blocks: str | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> PairStates:
    """Read the states that pairs of passages leave in a model.

    Args:
        model: A causal language model of transformers, on any device, in any dtype.
        pairs: Safe and unsafe passages, as from `models.passage`.
        site: `residual`, `mlp` or `attention`.
        layers: Which blocks to read, from the first to the last; all if not set. Nothing runs behind them.
        batch_tokens: Most tokens a batch may have, padding included; halved where memory does not suffice. If not set,
            1024 on a CPU, which gains nothing from more, and 4096 elsewhere.
        share_prefixes: Whether what both passages of a pair begin with runs once; if not set, where it pays and
            the model is found to allow it.
        blocks: Path of the decoder blocks, where they are not found by their number.
        progress: Wraps the list of batches, such as `tqdm` or `rich.progress.track`.

    Returns:
        States of shape (pairs, layers, d_model), float32, on the CPU, in the order of `pairs`.
    """
    if not pairs:
        raise DataError(
            "There are no pairs to read.\nA direction needs two sides.\nGive at least one pair of passages."
        )
    reader = StateReader(model, locate_blocks(model, blocks), site, layers)
    safe, unsafe = _read_groups(reader, pairs, batch_tokens, share_prefixes, progress)
    return PairStates(safe, unsafe)


def extract_passages(
    model: nn.Module,
    passages: Sequence[Passage],
    *,
    site: Site = "residual",
    layers: Sequence[int] | None = None,
    batch_tokens: int | None = None,
    blocks: str | None = None,
) -> States:
    """Read the states that single passages leave in a model: arguments and shape as of `extract`, one side."""
    reader = StateReader(model, locate_blocks(model, blocks), site, layers)
    return _read_groups(reader, [(passage,) for passage in passages], batch_tokens)[0]


def _read_groups(
    reader: StateReader,
    groups: Sequence[Group],
    budget: int | None,
    share: bool | None = False,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Float[Tensor, "members groups layers d_model"]:
    """Read groups of as many passages each, on the CPU, in their order."""
    device = next(reader.model.parameters()).device
    batches, share = plan_for(reader, groups, budget, share=share)
    width = reader.config.get_text_config(decoder=True).hidden_size
    found = torch.empty(len(groups[0]), len(groups), len(reader.modules), width)
    for indices in progress(batches):
        states = reader(collate([groups[i] for i in indices], indices, [True] * len(indices), share).to(device))
        found[:, indices] = states.unflatten(0, (len(found), -1)).cpu()
    return found


def plan_for(
    reader: StateReader,
    groups: Sequence[Group],
    budget: int | None = None,
    most: int | None = None,
    share: bool | None = None,
) -> tuple[list[list[int]], bool]:
    """Plan batches (`plan_batches`), of a size for the device, with shared prefixes only where the model allows them.

    Raises:
        SettingError: If sharing was asked for, and the model does not allow it.
    """
    if budget is None:
        budget = 1024 if next(reader.decoder.parameters()).device.type == "cpu" else 4096
    batches, shared = plan_batches(groups, budget, most, share)
    ordered = sorted((group for group in groups if common_prefix(group)), key=common_prefix) if shared else []
    if not ordered:
        return batches, shared
    longest = max(len(member.ids) for group in groups for member in group)
    if reader.longest is not None and longest > reader.longest:
        reason: str | None = f"beyond {reader.longest} tokens its rotary frequencies depend on the whole length"
    else:
        reason = why_not_share(reader, ordered[len(ordered) // 2])
    if reason is None:
        return batches, shared
    if share:
        raise SettingError(
            f"`--data.share_prefixes true`, but {type(reader.model).__name__} cannot go on from the keys and values of "
            f"a prefix: {reason}.\nWhat both sides of a pair begin with then has to run twice.\nLeave the setting out."
        )
    return plan_batches(groups, budget, most, share=False)


def _longest_with_the_same_frequencies(config: Any) -> int | None:
    """The length up to which rotary frequencies do not change with that of a batch; None where they never do."""
    text = config.get_text_config(decoder=True)
    found = getattr(text, "rope_parameters", None) or {}
    kinds = [found, *(value for value in found.values() if isinstance(value, dict))]
    limits = [text.max_position_embeddings for kind in kinds if kind.get("rope_type") == "dynamic"]
    limits += [kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"]
    return min(limits, default=None)


MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the host, had too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MEMORY)
