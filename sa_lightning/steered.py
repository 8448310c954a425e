"""The steered model: a Hugging Face model while an artifact acts on it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from sa_lightning.errors import ArtifactError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import (
    INTERVENTIONS,
    SteeringArtifact,
    Step,
    check_strength,
    steering,
    weights_fingerprint,
)


@contextmanager
def steer(
    model: nn.Module,
    artifact: SteeringArtifact,
    *,
    strength: float | dict[int, float] | None = None,
    allow_other_weights: bool = False,
) -> Iterator[nn.Module]:
    """Steer a model inside the block; afterwards its outputs are bit-identical to before.

    The set of directions is chosen by the fingerprint of the weights: those fitted on the
    original target for the original, those fitted on the edited one for the edited.

    Args:
        model: A causal language model of transformers, on any device, in any dtype.
        artifact: From `sa fit` or `SteeringArtifact.from_pretrained`.
        strength: Instead of the artifact's own, in the unit of its intervention (`INTERVENTIONS`): a number for
            all layers, or one per layer, of which those not named are not steered. Where the unit has a neutral
            value, 0, no hook is set, so that not a bit changes.
        allow_other_weights: Steer weights that the artifact does not know (another dtype, a further
            fine-tune) with its `original` directions, instead of refusing.

    Yields:
        The same model.

    Raises:
        ArtifactError: If the model has another shape, or weights that the artifact does not know.
        SettingError: If the intervention cannot take this strength.
    """
    blocks = locate_blocks(model, artifact.blocks)
    text = model.config.get_text_config(decoder=True)  # type: ignore[union-attr]
    artifact.check_model(len(blocks.layers), text.hidden_size, getattr(text, "_name_or_path", "") or "this model")
    strength = artifact.strength if strength is None else strength
    check_strength(strength, artifact.intervention)
    directions = choose_directions(model, artifact, allow_other_weights=allow_other_weights)
    modules = blocks.at(artifact.site)  # type: ignore[arg-type]
    changes = []
    for layer, direction in sorted(directions.items()):
        step = strength.get(layer) if isinstance(strength, dict) else strength
        if step is not None and not (step == 0 and INTERVENTIONS[artifact.intervention].neutral):
            # Placed once, where the module computes: no copy and no synchronisation while steering.
            device = next(modules[layer].parameters()).device
            changes.append((modules[layer], Step(artifact.intervention, direction, step, device)))
    with steering(blocks.decoder, changes, blocks.callers):
        yield model


def choose_directions(
    model: nn.Module, artifact: SteeringArtifact, *, allow_other_weights: bool = False
) -> dict[int, Tensor]:
    """Return the artifact's directions for the weights that the model has now.

    Raises:
        ArtifactError: If no set was fitted on these weights and `allow_other_weights` is off.
    """
    fingerprint = weights_fingerprint(model)
    for name, known in artifact.fingerprints.items():
        if known == fingerprint:
            return artifact.directions[name]
    if allow_other_weights:
        return artifact.directions["original"]
    known = ", ".join(f"{name} {value[:12]}" for name, value in artifact.fingerprints.items())
    raise ArtifactError(
        f"This artifact was fitted on other weights ({known}) than the model has ({fingerprint[:12]}).\n"
        "Directions fitted on one set of weights are not measured on another; a different dtype counts as different.\n"
        "Fit an artifact for this model, load it in the dtype of the fit, or pass `allow_other_weights=True`."
    )
