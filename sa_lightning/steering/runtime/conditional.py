"""Steering that is decided once for each prompt: gates read it, before anything is steered, on its own KV cache."""

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.decision import Decisions, PromptRunner
from sa_lightning.steering.runtime.hooks import is_steered, steering
from sa_lightning.steering.runtime.prompt_cache import cache_of
from sa_lightning.steering.runtime.prompt_lengths import known_lengths
from sa_lightning.steering.runtime.prompt_reader import PromptReader
from sa_lightning.steering.runtime.running import Bound

_GATED: WeakSet[nn.Module] = WeakSet()  # models that gates read now, and what is wrapped around them


def is_gated(model: nn.Module) -> bool:
    """Whether gates read the model's prompts now, so that forwards that hold more should say where prompts end."""
    return model in _GATED


@contextmanager
def conditional(
    model: nn.Module,
    decoder: nn.Module,
    layers: Sequence[nn.Module],
    components: Sequence[Component],
    appended: Sequence[int] = (),
    callers: Sequence[nn.Module] = (),
) -> Generator[Decisions]:
    """Steer generation inside the block by what gates make of each prompt; weights are decided once and kept.

    A forward that begins a cache is a prompt: it runs unsteered and is read on the way. Then the appended text, if a
    gate reads one, runs on that cache and is taken off again; the gates decide; and the last token of the prompt runs a
    second time, steered, with every token that follows. So a gate costs as many token steps as the appended text has,
    and one more, whatever the length of the prompt. Rows of weight 0 keep logits and cache of the first pass, bit for
    bit. Nothing waits for the device, but a static cache is asked for its length. Prompts must be padded on the left,
    as for any generation, and come whole. A decision belongs to the cache that it was made on: another is refused.

    Decisions are constants to a gradient, and the last token of a prompt that is steered has none: for gradients, and
    for losses of a given answer, use `prompt_lengths`.

    SCANS (arXiv 2408.11491, section 3.3; its code steers from the last token of the template on, and runs the prompt
    twice).

    Args:
        model: The causal language model, which is called with token ids and returns logits and a cache; of a wrapper,
            what `generate` calls.
        decoder: The module below it that holds the blocks.
        layers: The decoder blocks, which gates read.
        components: What may be done, each with its gate.
        appended: Token ids of the text behind the prompt, as `Sure`.
        callers: As of `steering`.

    Yields:
        The decisions, renewed by every prompt.

    Raises:
        SettingError: If a gate reads an appended text and there is none.
        ModelError: If gates steer the model already. Inside, if a forward has no cache, one that tokens cannot be taken
            off, or one that was not decided on; if it holds a part of a prompt, or drafts behind it; if it is asked for
            a loss, or the decoder runs without the model.
    """
    if any("appended" in component.gate.reads for component in components) and not len(appended):
        raise SettingError(
            "A gate reads the states behind an appended text, but there is none.\n"
            "SCANS compares a prompt with and without `Sure`.\nGive the ids of the text."
        )
    if model in _GATED:
        raise ModelError(
            f"This {type(model).__name__} is steered by gates already.\n"
            "Each prompt is decided on once, before anything is steered.\n"
            "Leave the other block first, or fit one artifact with both as `--steering.rules`."
        )
    if is_steered(decoder):
        raise ModelError(
            f"This {type(decoder).__name__} is steered already, and gates would read steered states.\n"
            "They were fitted on states as they are.\n"
            "Leave the other block first, or fit one artifact with both as `--steering.rules`."
        )
    reader = PromptReader(layers, components)
    runner = PromptRunner(model, components, reader, tuple(appended))
    # What decides needs no compiler. Torch has no types here.
    before: Any = torch.compiler.disable(runner.before)  # pyright: ignore[reportUnknownMemberType]
    after: Any = torch.compiler.disable(runner.after)  # pyright: ignore[reportUnknownMemberType]
    left: Any = torch.compiler.disable(runner.left)  # pyright: ignore[reportUnknownMemberType]
    with ExitStack() as stack:
        for index in reader.layers:
            stack.callback(layers[index].register_forward_hook(reader.hook(index)).remove)
        changes: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [
            pair for component in components for pair in component.gated
        ]
        stack.enter_context(steering(decoder, changes, callers))
        stack.callback(model.register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(after, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(left, always_call=True).remove)
        stack.callback(decoder.register_forward_pre_hook(runner.below).remove)
        stack.enter_context(_told_of_prompts(model, runner))
        for module in (model, *callers):
            _GATED.add(module)
            stack.callback(_GATED.discard, module)
        yield runner.decisions


@contextmanager
def _told_of_prompts(model: nn.Module, runner: PromptRunner) -> Generator[None]:
    """Let a runner know how long the prompts are that `generate` is given: it may run less of them at once, or more."""

    def generate(*args: Any, **kwargs: Any) -> Any:
        _refuse_what_no_gate_reads(model, kwargs)
        given = [args[0] if args else None, kwargs.get("inputs"), kwargs.get("input_ids")]
        runner.width = next((tokens.shape[1] for tokens in given if isinstance(tokens, Tensor)), None)
        try:
            return known["generate"](*args, **kwargs)
        finally:
            runner.width = None

    def generate_batch(*_args: Any, **_kwargs: Any) -> Any:
        raise ModelError(
            "`generate_batch` runs several prompts, and parts of replies, in one forward.\n"
            "A gate reads each prompt where it ends, and would not find it.\nUse `generate`, or fit without a gate."
        )

    taken = {"generate": generate, "generate_batch": generate_batch}
    known = {name: getattr(model, name) for name in taken if hasattr(model, name)}
    own = {name: vars(model)[name] for name in known if name in vars(model)}
    for name, method in known.items():
        setattr(model, name, _Instead(taken[name], method))
    try:
        yield
    finally:
        for name in known:
            delattr(model, name)
        for name, method in own.items():
            setattr(model, name, method)


def _refuse_what_no_gate_reads(model: nn.Module, kwargs: dict[str, Any]) -> None:
    cache = cache_of(kwargs)
    if cache is not None and cache.get_seq_length():
        raise ModelError(
            f"`generate` goes on from a cache that holds {int(cache.get_seq_length())} tokens.\n"
            "A gate decides on a whole prompt, which it reads on the way.\n"
            "Leave `past_key_values` out: give all tokens, or fit without a gate."
        )
    if known_lengths() is not None:
        raise ModelError(
            "`generate` is called where `prompt_lengths` say where prompts end.\n"
            "They are of forwards that hold answers, too; a reply has none yet.\nCall it outside of `prompt_lengths`."
        )
    settings: Any = kwargs.get("generation_config") or getattr(model, "generation_config", None)
    scale = kwargs.get("guidance_scale", getattr(settings, "guidance_scale", None))
    if scale not in (None, 1):
        raise ModelError(
            f"`guidance_scale` is {scale}: a second prompt runs beside the first, on a cache of its own.\n"
            "A gate decides on one prompt a reply.\nLeave it out, or fit without a gate."
        )


class _Instead(Bound):
    """What stands in place of a method while gates steer its model."""

    def __init__(self, call: Callable[..., Any], method: Callable[..., Any]) -> None:
        functools.update_wrapper(self, method)
        super().__init__(call)
