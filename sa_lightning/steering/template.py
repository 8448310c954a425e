"""The chat template that an artifact was fitted with, against the one that it is used with."""

import json
from collections.abc import Mapping
from typing import Any

from sa_lightning.errors import ArtifactError
from sa_lightning.steering.artifact.artifact import SteeringArtifact


def check_template(
    artifact: SteeringArtifact,
    template: str,
    arguments: Mapping[str, Any],
    tail: str | None,
    *,
    system_prompt: str | None = None,
    how: str = "",
) -> str | None:
    """Compare what stands between a prompt and the reply with what stood there in the fit.

    Gates read prompts there, and directions act from there on. What differs is refused where a gate reads it, and
    else warned of. Of artifacts that do not know the text the names are compared.

    Args:
        artifact: From `sa fit`.
        template: Name of the template in use, or its file.
        arguments: Handed to it.
        tail: What it writes behind the words of the user, up to the reply; None if that cannot be told.
        system_prompt: What the system says in conversations without a system turn.
        how: How the template of the fit is asked for; the options of `sa` if not set.

    Returns:
        A warning, or None.

    Raises:
        ArtifactError: If the artifact has a gate, which would read other text than it was fitted on.
    """
    if not any(layers for rule in artifact.rules.values() for layers in rule.directions.values()):
        return None  # nothing acts on activations
    before, now = _beside(artifact.template_arguments, artifact.system_prompt), _beside(arguments, system_prompt)
    fitted, used = _named(artifact.template, before), _named(template, now)
    if artifact.template_tail is None or tail is None:
        if artifact.template == template:
            return None
        fact = f"This artifact was fitted with the template {fitted}, and is used with {used}."
    elif artifact.template_tail == tail:
        if before == now:
            return None
        fact = (
            f"This artifact was fitted with the template {fitted}, and is used with {used}: what stands behind a "
            "prompt is the same, what stands before it may differ."
        )
    else:
        fact = (
            f"This artifact was fitted with the template {fitted}, which writes {artifact.template_tail!r} behind a "
            f"prompt, and is used with {used}, which writes {tail!r}."
        )
        if artifact.gated:
            raise ArtifactError(
                f"{fact}\nIts gate reads prompts at their end, and would read what it was not fitted on.\n"
                f"{_advice(artifact, how)}"
            )
    return f"{fact} What was fitted behind one text is not what acts behind another. {_advice(artifact, how)}"


def _advice(artifact: SteeringArtifact, how: str) -> str:
    if not how:
        how = f"`--template {artifact.template}`"
        if artifact.template_arguments:
            how += f" and `--model.template_arguments '{_written(artifact.template_arguments)}'`"
        elif artifact.template_tail is not None:
            how += ", without template arguments"
        if artifact.system_prompt:
            how += f" and `--model.system_prompt {artifact.system_prompt!r}`"
    return f"Use that of the fit ({how}), or fit again with this one."


def _beside(arguments: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """What goes into the template beside a conversation."""
    return {**arguments, **({} if system_prompt is None else {"system_prompt": system_prompt})}


def _named(template: str, arguments: Mapping[str, Any]) -> str:
    return f"`{template}`" + (f" with `{_written(arguments)}`" if arguments else "")


def _written(arguments: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {json.dumps(value, default=str)}" for name, value in arguments.items()) + "}"
