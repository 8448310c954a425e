"""What gates make of a prompt: when it is read, on which cache, and for what the decision holds."""

import itertools
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sa_lightning.errors import ModelError
from sa_lightning.steering.gates.gate import Reading
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.prompt_cache import (
    Cache,
    Forward,
    cache_of,
    crop,
    forget_past,
    last_of,
    put_back,
    real_tokens,
    remember_past,
)
from sa_lightning.steering.runtime.prompt_lengths import check_lengths, known_lengths
from sa_lightning.steering.runtime.prompt_reader import PromptReader
from sa_lightning.steering.typed import assert_later

#: The attribute of a cache that says which decision it goes on with.
MARK = "sa_lightning_decision"
_DECISIONS = itertools.count()


class Decisions:
    """What gates made of the last prompts.

    Attributes:
        scores: One tensor of shape (batch,) a component.
        weights: The same, of the strengths.
    """

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.weights: list[Tensor] = []


class PromptRunner:
    """What happens around each forward of a model: a prompt is read and decided on, what follows is steered by that.

    Args:
        model: The causal language model.
        components: What may be done, each with its gate.
        reader: Takes the states that gates read.
        appended: Token ids of the text behind the prompt.
    """

    def __init__(
        self,
        model: nn.Module,
        components: Sequence[Component],
        reader: PromptReader,
        appended: tuple[int, ...],
    ) -> None:
        self.components, self.reader = components, reader
        self.whole_prompt = any(component.whole_prompt for component in components)
        self._text: dict[torch.device, Tensor] = {}  # the appended text, where it has been brought
        self.appended = appended if any("appended" in component.gate.reads for component in components) else ()
        self.reads = bool(reader.layers)  # with no gate that reads, all prompts are steered from their first token on
        self.decisions = Decisions()
        self.busy = self.inside = self.is_prompt = self.warned = False
        self.thread: int | None = None  # in which the model runs
        self.refused = 0  # forwards inside of another
        self.width: int | None = None  # of the prompts that `generate` was given
        self.decision: int | None = None  # which one the weights are of; caches, and copies of them, have it as a mark
        self.placed = True  # whether the caller says which position a token has
        self.forward = Forward(model)

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin a prompt, go on from one that was decided on, or refuse what no gate could decide on.

        Raises:
            ModelError: If a part of a prompt runs, drafts behind it, or a cache that was not decided on; if a loss is
                asked for.
        """
        if self.busy:
            return
        if self.inside:
            self.refused += 1
            raise ModelError(
                f"{type(_module).__name__} runs inside of its own forward, or one before was interrupted.\n"
                "A gate decides on one prompt at a time, and would mistake one for the other.\n"
                "Call it outside, or leave the block and enter it again."
            )
        self.inside, self.thread = True, threading.get_ident()
        given = self.forward.arguments(args, kwargs)
        tokens, mask, cache = given.get("input_ids"), given.get("attention_mask"), cache_of(given)
        lengths = known_lengths()
        if lengths is not None:
            self._decide_ahead(_module, tokens, mask, cache, lengths)
            return
        self.is_prompt = True
        if cache is not None and cache.get_seq_length():
            self.is_prompt = False
            self._goes_on(cache)
            return
        if self.width is not None and tokens is not None and tokens.shape[1] != self.width:
            raise ModelError(
                f"`generate` was given prompts of {self.width} tokens, but runs {tokens.shape[1]} at first.\n"
                "A gate reads where the prompt ends; drafts of assisted decoding go beyond, chunks stop before.\n"
                "Leave out `assistant_model`, `prompt_lookup_num_tokens` and `prefill_chunk_size`."
            )
        if given.get("labels") is not None:
            raise ModelError(
                "A loss is asked for where a prompt is decided on.\nIt would be that of the model without steering.\n"
                "Say where prompts end with `sa_lightning.steering.prompt_lengths`: the answers are then steered."
            )
        if not self.reads:
            self.decision = None
            self._decide_on_all(given["input_ids" if tokens is not None else "inputs_embeds"])
            return
        remember_past(cache)  # sliding windows forget what lies before them, unless told
        self.placed = given.get("position_ids") is not None
        self._begin(None if tokens is None else real_tokens(mask, tokens.shape[1]))

    def _goes_on(self, cache: Cache) -> None:
        """Refuse a cache that was not decided on: it would be steered as the last prompt was, or not at all."""
        if self.decision is None or getattr(cache, MARK, None) != self.decision:
            raise ModelError(
                f"A {type(cache).__name__} is gone on from that no gate has decided on.\n"
                "A decision is made on the whole prompt, where its cache begins, and belongs to that cache alone.\n"
                "Run prompts inside the block from their beginning, and one batch to its end before the next."
            )

    def below(self, module: nn.Module, _args: Any) -> None:
        """Refuse a decoder that runs where no hook sees the model, as in a wrapper that calls what is inside."""
        if not self.inside:
            raise ModelError(
                f"{type(module).__name__} runs without its model, so no gate reads the prompt.\n"
                "It would not be steered.\nCall the model, or its `generate`."
            )

    def left(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        """Note that the model has ended, also where it failed."""
        if self.busy or self.thread != threading.get_ident():  # a second thread was refused before it got here
            return
        if self.refused:
            self.refused -= 1
        else:
            self.inside = False

    def _begin(self, mask: Tensor | None) -> None:
        """Steer nothing, and read what runs next."""
        self.decision = None
        for component in self.components:
            component.set(None)
        self.reader.mask = mask
        if self.reader.mask is not None:
            assert_later(self.reader.mask[:, -1].all(), "a gate reads the last token: pad prompts on the left")
        self.reader.on = True

    def _decide_on_all(self, rows: Tensor) -> None:
        """Steer every prompt, without reading one."""
        self.decisions.scores = [rows.new_zeros(len(rows), dtype=torch.float32) for _ in self.components]
        self.decisions.weights = [
            component.policy.weights(scores)
            for component, scores in zip(self.components, self.decisions.scores, strict=True)
        ]
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            component.set(weights)

    def _decide_ahead(
        self, model: nn.Module, tokens: Any, mask: Any, cache: Cache | None, lengths: Sequence[int]
    ) -> None:
        """Let gates read the prompts alone, then steer what runs next from the last token of each prompt on."""
        check_lengths(lengths, tokens, mask, cache)
        self.is_prompt = False
        ends = torch.tensor(lengths, device=tokens.device)[:, None]
        if self.reads:
            self._read_ahead(model, tokens, ends, max(lengths))
        else:
            self._decide_on_all(tokens)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            steered = torch.full_like(places, component.whole_prompt, dtype=torch.bool) | (places >= ends - 1)
            component.set(weights, steered & (places < ends) if component.only_prompt else steered)

    def _read_ahead(self, model: nn.Module, tokens: Tensor, ends: Tensor, width: int) -> None:
        """Run the prompts alone, and let gates decide."""
        places = torch.arange(width, device=tokens.device) - (width - ends)  # prompts alone, padded on the left
        prompts = tokens.gather(1, places.clamp(min=0))
        mask = (places >= 0).long()
        more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in self.forward.takes else {}
        if "position_ids" in self.forward.takes:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        self._begin(mask)
        self.busy = self.placed = True
        try:
            with torch.no_grad():
                output = model(input_ids=prompts, attention_mask=mask, use_cache=True, **more)
            self._decide(model, prompts, cache_of(output))
        finally:
            self.busy = self.reader.on = False

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Decide on a prompt, and return its output with the last token steered; nothing after another forward.

        Raises:
            ModelError: If the output has no names, no cache, or one that tokens cannot be taken off.
        """
        if self.busy or not self.is_prompt:
            return None
        if not hasattr(output, "logits"):
            raise ModelError(
                f"{type(module).__name__} returned a {type(output).__name__}.\n"
                "Where a prompt is steered, logits and cache are found by their names.\nLeave `return_dict=False` out."
            )
        cache = cache_of(output)
        tokens = self.forward.arguments(args, kwargs).get("input_ids")
        if cache is not None and not self.reads:
            self._go_on(cache)
            return None
        if cache is None or tokens is None:
            raise ModelError(
                f"{type(module).__name__} was called without a KV cache, or without token ids.\n"
                "A gate decides once, where the prompt ends, and goes on from the prompt's cache.\n"
                "Generate with `use_cache=True`, from `input_ids`."
            )
        self.busy = True
        try:
            return self._decided(module, tokens, self.reader.mask, cache, output)
        finally:
            self.busy = self.reader.on = False

    def _decided(self, model: nn.Module, tokens: Tensor, mask: Tensor | None, cache: Cache, output: Any) -> Any:
        """Decide, and run the last token, or all, of the prompt once more, steered."""
        again = tokens.shape[1] if self.whole_prompt else 1
        kept = last_of(cache, again)
        self._decide(model, tokens, cache)
        idle = torch.stack(self.decisions.weights).eq(0).all(0)
        crop(cache, len(self.appended) + again)  # at once: a sliding window goes back only once
        last = torch.arange(again, device=tokens.device).expand(len(tokens), -1) == again - 1
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            component.set(weights, None if component.whole_prompt or again == 1 else last)
        states = getattr(output, "hidden_states", None)
        more: dict[str, Any] = {} if states is None else {"output_hidden_states": True}
        steered = self._run(model, tokens[:, -again:], mask, cache, tokens.shape[1] - again, **more)
        put_back(kept, idle)
        forget_past(cache)
        self._go_on(cache)
        if self.width is None and again < output.logits.shape[1] and not self.warned:
            self.warned = True
            warnings.warn(
                f"Logits of {output.logits.shape[1]} tokens are asked for where a prompt is decided on: those of the "
                "last are steered, the others are not. If answers are scored, say where prompts end: "
                "`with sa_lightning.steering.runtime.prompt_lengths([...])`.",
                stacklevel=2,
            )
        output.logits = _last_from(output.logits, steered.logits, idle)
        if states is not None:
            pairs = zip(states, steered.hidden_states, strict=True)
            output.hidden_states = tuple(_last_from(before, now, idle) for before, now in pairs)
        return output

    def _go_on(self, cache: Cache) -> None:
        """Steer replies from here on, as was decided, and mark the cache that they go on from."""
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            component.set(None if component.only_prompt else weights)
        self.decision = next(_DECISIONS)
        setattr(cache, MARK, self.decision)

    def _decide(self, model: nn.Module, tokens: Tensor, cache: Cache | None) -> None:
        """Run the appended text behind a prompt that has been read, and let the gates decide."""
        reader, batch = self.reader, len(tokens)
        end = reader.states(reader.ends)
        mean = reader.states(reader.means) if reader.averages else None
        behind = None
        if self.appended:
            if tokens.device not in self._text:
                self._text[tokens.device] = torch.tensor(self.appended, device=tokens.device)
            text = self._text[tokens.device].expand(batch, -1)
            mask = reader.mask
            whole = None if mask is None else torch.cat([mask, mask.new_ones(batch, len(self.appended))], 1)
            reader.mask = None  # of the prompt; its means are known
            self._run(model, text, whole, cache, tokens.shape[1])
            reader.mask, behind = mask, reader.states(reader.ends)
        reader.on = False
        reading = Reading(reader.layers, end, behind, mean)
        self.decisions.scores = [component.gate(reading) for component in self.components]
        self.decisions.weights = [
            component.policy.weights(scores)
            for component, scores in zip(self.components, self.decisions.scores, strict=True)
        ]

    def _run(
        self,
        model: nn.Module,
        tokens: Int[Tensor, "batch new"],
        mask: Tensor | None,
        cache: Cache | None,
        before: int,
        **more: Any,
    ) -> Any:
        """Go on from a cache with some tokens; `before` says how many come earlier in the row, padding included."""
        if "position_ids" in self.forward.takes and self.placed:
            count = tokens.shape[1]
            if mask is None:
                places = torch.arange(before, before + count, device=tokens.device).expand(len(tokens), -1)
            else:
                places = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, before : before + count]
            more["position_ids"] = places
        if "logits_to_keep" in self.forward.takes and not self.whole_prompt:
            more["logits_to_keep"] = 1
        with torch.no_grad():
            return model(input_ids=tokens, attention_mask=mask, use_cache=True, **{self.forward.cache: cache}, **more)


def _last_from(whole: Tensor, again: Tensor, idle: Tensor) -> Tensor:
    """The first, with its last tokens from the second, but in the rows that nobody steers."""
    width = min(again.shape[1], whole.shape[1])
    chosen = torch.where(idle.to(whole.device)[:, None, None], whole[:, -width:], again[:, -width:])
    return torch.cat([whole[:, :-width], chosen], 1)
