"""The steered model: a Hugging Face model while an artifact acts on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from sa_lightning.errors import ArtifactError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import INTERVENTIONS, SteeringArtifact, steering, weights_fingerprint


@contextmanager
def steer(
    model: nn.Module,
    artifact: SteeringArtifact,
    *,
    strength: float | None = None,
    allow_other_weights: bool = False,
) -> Iterator[nn.Module]:
    """Steer a model inside the block; afterwards its outputs are bit-identical to before.

    The set of directions is chosen by the fingerprint of the weights: those fitted on the
    original target for the original, those fitted on the edited one for the edited.

    Args:
        model: A causal language model of transformers, on any device, in any dtype.
        artifact: From `sa fit` or `SteeringArtifact.from_pretrained`.
        strength: Fraction of each state's norm, instead of the artifact's own; 0 changes nothing.
        allow_other_weights: Steer weights that the artifact does not know (another dtype, a further
            fine-tune) with its `original` directions, instead of refusing.

    Yields:
        The same model.

    Raises:
        ArtifactError: If the model has another shape, or weights that the artifact does not know.
    """
    blocks = locate_blocks(model)
    text = model.config.get_text_config(decoder=True)  # type: ignore[union-attr]
    artifact.check_model(len(blocks.layers), text.hidden_size, getattr(text, "_name_or_path", "") or "this model")
    directions = choose_directions(model, artifact, allow_other_weights=allow_other_weights)
    step = artifact.strength if strength is None else strength
    change = INTERVENTIONS[artifact.intervention]
    modules = blocks.at(artifact.site)  # type: ignore[arg-type]
    changes = []
    for layer, direction in sorted(directions.items()):
        # Placed once, where the module computes: no copy and no synchronisation while steering.
        device = next(modules[layer].parameters()).device
        changes.append((modules[layer], partial(change, direction=direction.float().to(device), strength=step)))
    with steering(blocks.decoder, changes):
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
