"""The steered model: a Hugging Face model while an artifact acts on it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from sa_lightning.errors import ArtifactError, ModelError, SettingError
from sa_lightning.models import locate_blocks, quantization_of
from sa_lightning.models.blocks import Blocks
from sa_lightning.steering import (
    Component,
    Rule,
    SteeringArtifact,
    Step,
    conditional,
    steering,
    weights_fingerprint,
)
from sa_lightning.steering.gates.fitted import UNGATED
from sa_lightning.steering.runtime.conditional import is_gated


def steer(
    model: nn.Module,
    artifact: SteeringArtifact,
    *,
    strength: float | dict[int, float] | None = None,
    allow_other_weights: bool = False,
) -> "Steering":
    """Steer a model inside the block; afterwards its outputs are bit-identical to before.

    Enter it once around many calls: every entry looks at the weights once, and makes code that was compiled for the
    whole model compile again (blocks compiled by themselves do not). One forward at a time: while one runs, that of a
    second thread is refused.

    The set of directions is chosen by the fingerprint of the weights: those fitted on the
    original target for the original, those fitted on the edited one for the edited. An artifact with a gate
    steers each prompt as its gate decides, once, from the last token of the prompt on (`steering.conditional`), and
    all rules act together. Where some have gates and others have none, prompts run twice: read unsteered, then steered.
    A rule with `only_prompt` leaves the tokens of replies alone: what begins a KV cache is the prompt.

    Args:
        model: A causal language model of transformers, on any device, in any dtype.
        artifact: From `sa fit` or `SteeringArtifact.from_pretrained`.
        strength: Instead of the artifact's own, in the unit of its intervention (`INTERVENTIONS`): a number for
            all layers, or one per layer, of which those not named are not steered. Where the unit has a neutral
            value, 0, no hook is set, so that not a bit changes. It is that of the artifact's `first` rule; those of
            others stay.
        allow_other_weights: Steer weights that the artifact does not know (another dtype, a further
            fine-tune) with its `original` directions, instead of refusing.

    Returns:
        A context manager that gives the same model. It may be entered again once it was left.

    Raises:
        ArtifactError: On entering, if the model has another shape, or weights that the artifact does not know.
        SettingError: On entering, if the intervention cannot take this strength, or there are several rules, and none
            of pairs.
        ModelError: Inside, as of `hooks.steering` and `conditional`: rather than that something is not steered.
    """
    return Steering(lambda: _steered(model, artifact, strength, allow_other_weights))


class Steering(AbstractContextManager[nn.Module], ContextDecorator):
    """What `steer` returns: each entry looks at the weights anew, and one is possible at a time.

    Args:
        enter: Makes what is entered.
    """

    def __init__(self, enter: Callable[[], AbstractContextManager[nn.Module]]) -> None:
        self._enter = enter
        self._inside: AbstractContextManager[nn.Module] | None = None

    def __enter__(self) -> nn.Module:
        """Steer the model.

        Raises:
            ModelError: If it is steered by this very object already.
        """
        if self._inside is not None:
            raise ModelError(
                "This steering is entered a second time, inside of itself.\n"
                "Each step would be taken twice.\nLeave the block first, or call `steer` again if that is wanted."
            )
        inside = self._enter()
        model = inside.__enter__()
        self._inside = inside
        return model

    def __exit__(self, *error: Any) -> bool | None:
        """Give the model back."""
        inside, self._inside = self._inside, None
        return None if inside is None else inside.__exit__(*error)


@contextmanager
def _steered(
    model: nn.Module, artifact: SteeringArtifact, strength: float | dict[int, float] | None, allow_other_weights: bool
) -> Iterator[nn.Module]:
    blocks = locate_blocks(model, artifact.blocks)
    text = model.config.get_text_config(decoder=True)  # type: ignore[union-attr]
    artifact.check_model(len(blocks.layers), text.hidden_size, getattr(text, "_name_or_path", "") or "this model")
    artifact = artifact.with_strength(strength)  # refused before all weights are looked at
    name = choose_set(model, artifact, allow_other_weights=allow_other_weights)
    rules = [(rule, changes_of(model, blocks, rule, name)) for rule in artifact.rules.values()]
    rules = [(rule, changes) for rule, changes in rules if changes]
    gates = [rule.gate for rule, _ in rules if rule.gate is not None]
    if not gates and not any(rule.only_prompt for rule, _ in rules):
        if is_gated(model) and rules:
            raise ModelError(
                f"Gates steer this {type(model).__name__} already, and would read states that this artifact moves.\n"
                "They were fitted on states as they are.\n"
                "Leave the other block first, or fit one artifact with both as `--steering.rules`."
            )
        with steering(blocks.decoder, [change for _, changes in rules for change in changes], blocks.callers):
            yield model
        return
    appended = {gate.ids for gate in gates if gate.ids}
    if len(appended) > 1:
        raise SettingError(
            f"The gates of this artifact append {len(appended)} different texts to a prompt.\n"
            "It is read behind one of them.\nFit the gates with the same `append`."
        )
    found = []
    for rule, changes in rules:
        gate, policy = rule.gate_of(name)
        gate = gate.to(changes[0][1].direction.device)
        found.append(Component(gate, policy, changes, rule.only_prompt, rule.whole_prompt))
    ids = next(iter(appended), ())
    with conditional(blocks.generating, blocks.decoder, blocks.at("residual"), found, ids, blocks.callers):
        yield model


def acting(
    model: nn.Module, blocks: Blocks, changes: Sequence[tuple[nn.Module, Step]], only_prompt: bool = False
) -> AbstractContextManager[Any]:
    """Change the output of modules at every token inside the block, or at tokens of prompts alone.

    Args:
        model: A causal language model of transformers.
        blocks: Of the model.
        changes: Modules and what is done to their outputs.
        only_prompt: Whether they act on no token of a reply: what begins a KV cache is the prompt, and in forwards that
            hold replies, too, what `prompt_lengths` says.
    """
    if not only_prompt or not changes:
        return steering(blocks.decoder, changes, blocks.callers)
    component = Component(*UNGATED, changes, only_prompt=True, whole_prompt=True)
    return conditional(blocks.generating, blocks.decoder, blocks.at("residual"), [component], (), blocks.callers)


def changes_of(
    model: nn.Module, blocks: Blocks, rule: Rule, name: str, strength: float | Mapping[int, float] | None = None
) -> list[tuple[nn.Module, Step]]:
    """Modules, and what a rule does to their outputs; none at a strength that changes nothing.

    Args:
        model: A causal language model of transformers.
        blocks: Of the model.
        rule: Of an artifact.
        name: Of the set of directions that was fitted on these weights.
        strength: Instead of the rule's.
    """
    directions = rule.directions[name]
    strength = rule.strength if strength is None else strength
    check_layers(strength, directions)
    modules = blocks.at(rule.site)  # type: ignore[arg-type]  # a text out of a file; `Rule.check` holds it to `SITES`
    changes = []
    for layer, direction in sorted(directions.items()):
        step = strength.get(layer) if isinstance(strength, Mapping) else strength
        if step is not None and not rule.is_idle(step):
            # Placed once, where the module computes: no copy and no synchronisation while steering.
            device = _device(modules[layer], model)
            changes.append(
                (modules[layer], Step(rule.intervention, direction, step, device, *rule.norms_at(name, layer)))
            )
    return changes


def check_layers(strength: float | Mapping[int, float], directions: Collection[int]) -> None:
    """Refuse strengths of layers without a direction, and of none at all.

    Raises:
        SettingError: If a strength per layer would be ignored.
    """
    if isinstance(strength, Mapping) and (not strength or not strength.keys() <= set(directions)):
        raise SettingError(
            f"`steering.strength` names layers {sorted(strength)}, but there are directions for {sorted(directions)}.\n"
            "A strength without a direction would be ignored.\n"
            "Name layers that have one, give one strength for all, or fit again with other `--steering.layers`."
        )


def _device(module: nn.Module, model: nn.Module) -> torch.device:
    """Where a module computes, also if it is quantised and has no parameters, or accelerate brings them along.

    Raises:
        ModelError: If the weights are not there to compute with.
    """
    placed = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    if placed is not None:
        return torch.device(placed)
    device = next(chain(module.parameters(), module.buffers(), model.parameters())).device
    if device.type == "meta":
        raise ModelError(
            f"{type(module).__name__} has no weights in memory.\n"
            "A direction is placed where the module computes, once, before steering.\n"
            "Load the model without offloading to disk or host."
        )
    return device


def choose_set(model: nn.Module, artifact: SteeringArtifact, *, allow_other_weights: bool = False) -> str:
    """Return the name of the artifact's set of directions for the weights that the model has now.

    Raises:
        ArtifactError: If no set was fitted on these weights and `allow_other_weights` is off.
    """
    if allow_other_weights and any(parameter.is_meta for parameter in model.parameters()):
        return "original"  # offloaded, so that nobody sees which weights they are
    fingerprint = weights_fingerprint(model)
    for name, known in artifact.fingerprints.items():
        if known == fingerprint:
            return name
    if allow_other_weights:
        return "original"
    known = ", ".join(f"{name} {value[:12]}" for name, value in artifact.fingerprints.items())
    fitted, found = artifact.quantization, quantization_of(model)
    differ = fitted != found
    raise ArtifactError(
        f"This artifact was fitted on other weights ({known}{f', {fitted}' if fitted else ''}) than the model has "
        f"({fingerprint[:12]}{f', {found}' if found else ''}).\n"
        + (f"Those were {_quantised(fitted)}, these are {_quantised(found)}. " if differ else "")
        + "Directions fitted on one set of weights are not measured on another; another dtype counts as different.\n"
        f"Fit an artifact for this model, load it in the dtype {'and the quantisation ' if differ else ''}of the fit, "
        "or, in Python, pass `allow_other_weights=True`."
    )


def _quantised(how: str | None) -> str:
    return f"quantised ({how})" if how else "not quantised"
