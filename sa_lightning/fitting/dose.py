"""The dose: how far steering moves ordinary states, layer by layer and in all, in one unit for every method."""

from collections.abc import Mapping

from torch import nn

from sa_lightning.fitting.ordinary import OrdinaryStates, run_and_read
from sa_lightning.models import Blocks
from sa_lightning.steered import changes_of
from sa_lightning.steering import SteeringArtifact, steering


def doses(
    model: nn.Module,
    blocks: Blocks,
    artifact: SteeringArtifact,
    name: str,
    ordinary: OrdinaryStates,
    strength: float | Mapping[int, float] | None = None,
    *,
    whole: bool = False,
) -> dict[int, float]:
    """Return how far each layer alone leads the stream behind it, as a fraction of the typical norm there.

    It is a mean over the tokens of ordinary text; states that are left alone, sinks, count as moved by 0. One layer is
    steered at a time, and the stream is read behind its block: whatever the block makes of the step, such as a norm
    behind its MLP (Gemma 3, OLMo 2), is in it. The stream carries steps on, so the sum over layers is how far it is
    led, were all directions alike.

    Args:
        model: Unsteered.
        blocks: From `locate_blocks`.
        artifact: With directions and typical norms.
        name: Of the set of directions that was fitted on these weights.
        ordinary: Of the model as it is now.
        strength: Instead of the artifact's.
        whole: As of `ordinary_states`.
    """
    taken = artifact.strength if strength is None else strength
    found = {}
    for layer in artifact.steered_layers(name):
        number = taken.get(layer) if isinstance(taken, Mapping) else taken
        moved, tokens = 0.0, 0
        changes = [] if number is None else changes_of(model, blocks, artifact, name, {layer: number})
        with steering(blocks.decoder, changes, blocks.callers):
            for ids, before in zip(ordinary.sequences if changes else (), ordinary.states, strict=False):
                (after,) = run_and_read(blocks, ids, [blocks.layers[layer]], whole=whole)
                moved += float((after - before[layer]).norm(dim=-1).sum())
                tokens += len(ids)
        found[layer] = moved / max(1, tokens) / float(ordinary.stream[layer])
    return found
