"""What is fitted with the directions so that steps mean the same in every model: typical norms, strengths, doses."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.fitting.dose import doses
from sa_lightning.fitting.ordinary import ordinary_states
from sa_lightning.fitting.strength import HarmlessReplies, largest_strength
from sa_lightning.models import Blocks
from sa_lightning.steering import SteeringArtifact

AUTO = "auto"
SEQUENCES = 32  # of the fit's own text, on which typical norms and doses are measured


def calibrate(
    artifact: SteeringArtifact,
    name: str,
    model: Any,
    blocks: Blocks,
    sequences: Sequence[Sequence[int]],
    *,
    searched: Mapping[str, float],
    budget: float,
    replies: Callable[[], HarmlessReplies],
    whole: bool = False,
    settled: Collection[str] = (),
) -> None:
    """Put typical norms, strengths that are searched, and doses into an artifact whose directions are fitted.

    A strength is searched on the first set of weights, and holds for the others, so that arms differ in weights alone.

    Args:
        artifact: Changed in place, with its parts.
        name: Of the set of weights that the model has now.
        model: Unsteered.
        blocks: From `locate_blocks`.
        sequences: Token ids of text that the fit has read; the first `SEQUENCES` are run.
        searched: Of the parts whose strength is to be found ("" is the artifact itself): 1 or -1, which way.
        budget: Most KL divergence on harmless replies, in nats a token.
        replies: Makes them, where a strength is searched.
        whole: As of `ordinary_states`.
        settled: Sets whose strengths have been found before.
    """
    steered = [layer for one in artifact.together.values() for layer in one.directions.get(name, {})]
    depth = max(steered, default=0) + 1
    look = cache(lambda site: ordinary_states(blocks, sequences[:SEQUENCES], site, depth=depth, whole=whole))
    known = cache(replies)
    for part, one in artifact.together.items():
        directions = one.directions.get(name)
        if not directions:
            continue
        ordinary = look(one.site)
        one.typical_norms[name] = {layer: float(ordinary.site[layer]) for layer in sorted(directions)}
        if one.sinks is not None:
            found, first = ordinary.sinks(one.sinks)
            one.extraction.setdefault("sinks", {})[name] = {
                "states": found,
                "first_tokens": first,
                "tokens": ordinary.norms.shape[1],
                "sequences": len(ordinary.first),
            }
        if part in searched and not settled:
            search = largest_strength(model, blocks, one, name, known(), budget, searched[part])
            one.strength = search.strength
            one.extraction["strength_search"] = search.as_dict()
        one.dose[name] = doses(model, blocks, one, name, ordinary, whole=whole)


def check_searchable(intervention: str, strength: Any, name: str = "steering.strength") -> None:
    """Refuse a search for the strength of an intervention that changes something at strength 0.

    Raises:
        SettingError: With what to write.
    """
    if strength == AUTO and intervention == "clamp":
        raise SettingError(
            f"`{name}` is auto, with the intervention `clamp`.\n"
            "It sets a coordinate, and 0 is one like others, so there is no largest step.\n"
            "Give the coordinate as a number."
        )
