"""Steering that is decided once for each prompt: gates read it, before anything is steered, on its own KV cache."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.steering.gate import Gate, Policy, Reading
from sa_lightning.steering.hooks import _hidden, steering
from sa_lightning.steering.intervention import Step
from sa_lightning.steering.prompt_cache import cache_of, crop, last_of, put_back, real_tokens

Weights = Float[Tensor, " batch"]


_GATED: WeakSet[nn.Module] = WeakSet()  # models that gates read now
#: Where the prompt of each row ends, in forwards that hold more than prompts: how many tokens belong to it.
_LENGTHS: ContextVar[Sequence[int] | None] = ContextVar("lengths", default=None)


@contextmanager
def prompt_lengths(lengths: Sequence[int]) -> Iterator[None]:
    """Say where prompts end in the forwards inside the block, as where the likelihood of a given answer is measured.

    Rows are padded on the right. Gates then read each prompt by itself, in a forward of its own, and the last token of
    the prompt is steered with all that follow, as in generation.

    Args:
        lengths: Tokens of the prompt, row by row.
    """
    token = _LENGTHS.set(tuple(lengths))
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def is_gated(model: nn.Module) -> bool:
    """Whether gates read the model's prompts now, so that forwards that hold more should say where prompts end."""
    return model in _GATED


class GatedStep(nn.Module):
    """A step whose strength is weighted row by row; a row of weight 0, and all before a decision, stay as they are.

    Args:
        step: What is done at weight 1.
    """

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.weights: Tensor | None = None
        self.steered: Tensor | None = None  # which tokens may be, (batch, pos), where not all that run may

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the moved states; of shape (batch, pos, d_model), or the first two flattened."""
        if self.weights is None:
            return hidden
        rows = self.weights.repeat_interleave(hidden.shape[0] // len(self.weights))
        rows = rows.to(hidden.device).view(-1, *[1] * (hidden.dim() - 1))
        changed = self.step.change(hidden, self.step.direction, self.step.strength * rows)
        still = rows == 0
        if self.steered is not None:
            still = still | ~self.steered.to(hidden.device).view(*hidden.shape[:-1], 1)
        return torch.where(still, hidden, changed)


@dataclass(eq=False)
class Component:
    """One way to steer, with what decides about it.

    Attributes:
        gate: Scores prompts.
        policy: From a score to a weight of the steps' strengths.
        steps: Modules and what is done to their outputs.
        only_prompt: Whether it acts where the prompt ends alone, and on no token of the reply.
        whole_prompt: Whether it acts on all tokens of the prompt, which takes a second prefill for all.
    """

    gate: Gate
    policy: Policy
    steps: Sequence[tuple[nn.Module, Step]]
    only_prompt: bool = False
    whole_prompt: bool = False
    gated: list[tuple[nn.Module, GatedStep]] = field(init=False)

    def __post_init__(self) -> None:
        """Put weights before the steps."""
        self.gated = [(module, GatedStep(step)) for module, step in self.steps]

    def set(self, weights: Weights | None, steered: Tensor | None = None) -> None:
        """Steer with these weights from now on, some tokens alone where it is said which; with none, not at all."""
        for _, step in self.gated:
            step.weights, step.steered = weights, steered


class Decisions:
    """What gates made of the last prompts.

    Attributes:
        scores: One tensor of shape (batch,) a component.
        weights: The same, of the strengths.
    """

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.weights: list[Tensor] = []


@contextmanager
def conditional(
    model: nn.Module,
    decoder: nn.Module,
    layers: Sequence[nn.Module],
    components: Sequence[Component],
    appended: Sequence[int] = (),
    callers: Sequence[nn.Module] = (),
) -> Iterator[Decisions]:
    """Steer generation inside the block by what gates make of each prompt; weights are decided once and kept.

    A forward that begins a cache is a prompt: it runs unsteered and is read on the way. Then the appended text, if a
    gate reads one, runs on that cache and is taken off again; the gates decide; and the last token of the prompt runs a
    second time, steered, with every token that follows. So a gate costs as many token steps as the appended text has,
    and one more, whatever the length of the prompt. Rows of weight 0 keep logits and cache of the first pass, bit for
    bit. Nothing waits for the device. Prompts must be padded on the left, as for any generation.

    SCANS (arXiv 2408.11491, section 3.3; its code steers from the last token of the template on, and runs the prompt
    twice).

    Args:
        model: The causal language model, which is called with token ids and returns logits and a cache.
        decoder: The module below it that holds the blocks.
        layers: The decoder blocks, which gates read.
        components: What may be done, each with its gate.
        appended: Token ids of the text behind the prompt, as `Sure`.
        callers: As of `steering`.

    Yields:
        The decisions, renewed by every prompt.

    Raises:
        SettingError: If a gate reads an appended text and there is none.
        ModelError: Inside, if a forward has no cache, or one that tokens cannot be taken off.
    """
    if any(component.gate.appends for component in components) and not len(appended):
        raise SettingError(
            "A gate reads the states behind an appended text, but there is none.\n"
            "SCANS compares a prompt with and without `Sure`.\nGive the ids of the text."
        )
    reader = _Reader(layers, components)
    runner = _Runner(model, components, reader, tuple(appended))
    with ExitStack() as stack:
        for index in reader.layers:
            stack.callback(layers[index].register_forward_hook(reader.hook(index)).remove)
        changes: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [
            pair for component in components for pair in component.gated
        ]
        stack.enter_context(steering(decoder, changes, callers))
        stack.callback(model.register_forward_pre_hook(runner.before, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(runner.after, with_kwargs=True).remove)
        _GATED.add(model)
        stack.callback(_GATED.discard, model)
        yield runner.decisions


class _Reader:
    """Keeps states of the layers that gates read, while it is on."""

    def __init__(self, layers: Sequence[nn.Module], components: Sequence[Component]) -> None:
        self.layers = tuple(sorted({layer for component in components for layer in component.gate.layers}))
        self.averages = any(component.gate.averages for component in components)
        self.on = False
        self.mask: Tensor | None = None
        self.ends: dict[int, Tensor] = {}
        self.means: dict[int, Tensor] = {}

    def hook(self, index: int) -> Callable[..., None]:
        def read(_module: nn.Module, _args: Any, output: Any) -> None:
            if not self.on:
                return
            hidden = _hidden(output).detach()
            self.ends[index] = hidden[:, -1].float().clone()
            if self.averages:
                real = torch.ones_like(hidden[..., 0]) if self.mask is None else self.mask.to(hidden.device)
                real = real.float()[..., None]
                self.means[index] = (hidden.float() * real).sum(1) / real.sum(1)

        return read

    def states(self, found: dict[int, Tensor]) -> Tensor:
        device = found[self.layers[0]].device
        return torch.stack([found[layer].to(device) for layer in self.layers], dim=1)


class _Runner:
    def __init__(
        self,
        model: nn.Module,
        components: Sequence[Component],
        reader: _Reader,
        appended: tuple[int, ...],
    ) -> None:
        self.components, self.reader = components, reader
        self.whole_prompt = any(component.whole_prompt for component in components)
        self._text: dict[torch.device, Tensor] = {}  # the appended text, where it has been brought
        self.appended = appended if any(component.gate.appends for component in components) else ()
        self.decisions = Decisions()
        self.busy = self.is_prompt = False
        parameters = inspect.signature(model.forward).parameters
        self.takes = {name for name in ("position_ids", "logits_to_keep") if name in parameters}
        self.cache = "cache" if "cache" in parameters else "past_key_values"  # transformers renamed it in 5.2x

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.busy:
            return
        lengths = _LENGTHS.get()
        if lengths is not None:
            self._decide_ahead(_module, kwargs.get("input_ids", args[0] if args else None), lengths)
            return
        cache = cache_of(kwargs)
        self.is_prompt = cache is None or cache.get_seq_length() == 0
        if not self.is_prompt:
            return
        for layer in getattr(cache, "layers", ()):  # sliding windows forget what lies before them, unless told
            if hasattr(layer, "activate_past_recording"):
                layer.activate_past_recording()
        tokens = kwargs.get("input_ids", args[0] if args else None)
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self._begin(None if tokens is None else real_tokens(mask, tokens.shape[1]))

    def _begin(self, mask: Tensor | None) -> None:
        """Steer nothing, and read what runs next."""
        for component in self.components:
            component.set(None)
        self.reader.mask = mask
        if self.reader.mask is not None:
            # Checked on the device, which is not waited for.
            torch._assert_async(  # pyright: ignore[reportPrivateImportUsage]  # there is no public one
                self.reader.mask[:, -1].all(), "a gate reads the last token: pad prompts on the left"
            )
        self.reader.on = True

    def _decide_ahead(self, model: nn.Module, tokens: Any, lengths: Sequence[int]) -> None:
        """Let gates read the prompts alone, then steer what runs next from the last token of each prompt on."""
        if not isinstance(tokens, Tensor) or len(lengths) != len(tokens):
            raise ModelError(
                f"{len(lengths)} prompts end somewhere, but {len(tokens) if isinstance(tokens, Tensor) else 'no'} rows "
                "run.\nA gate decides row by row.\nGive `prompt_lengths` one number for each row."
            )
        self.is_prompt = False
        ends = torch.tensor(lengths, device=tokens.device)[:, None]
        width = max(lengths)
        places = torch.arange(width, device=tokens.device) - (width - ends)  # prompts alone, padded on the left
        prompts = tokens.gather(1, places.clamp(min=0))
        mask = (places >= 0).long()
        more = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if "position_ids" in self.takes else {}
        self._begin(mask)
        self.busy = True
        try:
            with torch.no_grad():
                output = model(input_ids=prompts, attention_mask=mask, use_cache=True, **more)
            self._decide(model, prompts, cache_of(output))
        finally:
            self.busy = self.reader.on = False
        places = torch.arange(tokens.shape[1], device=tokens.device)
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            steered = torch.full_like(places, component.whole_prompt, dtype=torch.bool) | (places >= ends - 1)
            component.set(weights, steered & (places < ends) if component.only_prompt else steered)

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.busy or not self.is_prompt:
            return None
        cache = cache_of(output)
        tokens = kwargs.get("input_ids", args[0] if args else None)
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

    def _decided(self, model: nn.Module, tokens: Tensor, mask: Tensor | None, cache: Any, output: Any) -> Any:
        """Decide, and run the last token, or all, of the prompt once more, steered."""
        again = tokens.shape[1] if self.whole_prompt else 1
        kept = last_of(cache, again)
        self._decide(model, tokens, cache)
        idle = torch.stack(self.decisions.weights).eq(0).all(0)
        crop(cache, len(self.appended) + again)  # at once: a sliding window goes back only once
        last = torch.arange(again, device=tokens.device).expand(len(tokens), -1) == again - 1
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            component.set(weights, None if component.whole_prompt or again == 1 else last)
        steered = self._run(model, tokens[:, -again:], mask, cache, tokens.shape[1] - again).logits
        put_back(cache, kept, idle)
        for component, weights in zip(self.components, self.decisions.weights, strict=True):
            component.set(None if component.only_prompt else weights)
        crop(cache, 0)
        for layer in getattr(cache, "layers", ()):
            if hasattr(layer, "record_past"):
                layer.record_past = False
        logits = output.logits
        idle = idle.to(logits.device)
        width = min(again, logits.shape[1])
        chosen = torch.where(idle[:, None, None], logits[:, -width:], steered[:, -width:])
        output.logits = torch.cat([logits[:, :-width], chosen], 1)
        return output

    def _decide(self, model: nn.Module, tokens: Tensor, cache: Any) -> None:
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
        self, model: nn.Module, tokens: Int[Tensor, "batch new"], mask: Tensor | None, cache: Any, before: int
    ) -> Any:
        """Go on from a cache with some tokens, of which `before` come earlier in the row, padding included."""
        more: dict[str, Any] = {}
        if "position_ids" in self.takes:
            count = tokens.shape[1]
            if mask is None:
                places = torch.arange(before, before + count, device=tokens.device).expand(len(tokens), -1)
            else:
                places = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, before : before + count]
            more["position_ids"] = places
        if "logits_to_keep" in self.takes and not self.whole_prompt:
            more["logits_to_keep"] = 1
        with torch.no_grad():
            return model(input_ids=tokens, attention_mask=mask, use_cache=True, **{self.cache: cache}, **more)
