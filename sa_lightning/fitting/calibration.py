"""What is fitted with the directions so that steps mean the same in every model: typical norms, strengths, doses.

The dose is how far steering moves ordinary states, layer by layer and in all, in one unit for every method.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

from torch import nn

from sa_lightning.errors import SettingError
from sa_lightning.fitting.ordinary import OrdinaryStates, ordinary_states, run_and_read
from sa_lightning.fitting.strength import HarmlessReplies, largest_strength
from sa_lightning.models import Blocks
from sa_lightning.steered import changes_of
from sa_lightning.steering import Rule, steering

AUTO = "auto"
SEQUENCES = 32  # of the fit's own text, on which typical norms and doses are measured


def calibrate(
    rules: Mapping[str, Rule],
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
    """Put typical norms, strengths that are searched, and doses into rules whose directions are fitted.

    A strength is searched on the first set of weights, and holds for the others, so that arms differ in weights alone.

    Args:
        rules: Changed in place.
        name: Of the set of weights that the model has now.
        model: Unsteered.
        blocks: From `locate_blocks`.
        sequences: Token ids of text that the fit has read; the first `SEQUENCES` are run.
        searched: Of the rules whose strength is to be found: 1 or -1, which way.
        budget: Most KL divergence on harmless replies, in nats a token.
        replies: Makes them, where a strength is searched.
        whole: As of `ordinary_states`.
        settled: Sets whose strengths have been found before.
    """
    steered = [layer for rule in rules.values() for layer in rule.directions.get(name, {})]
    depth = max(steered, default=0) + 1
    look = cache(lambda site: ordinary_states(blocks, sequences[:SEQUENCES], site, depth=depth, whole=whole))
    known = cache(replies)
    for key, rule in rules.items():
        directions = rule.directions.get(name)
        if not directions:
            continue
        ordinary = look(rule.site)
        rule.typical_norms[name] = {layer: float(ordinary.site[layer]) for layer in sorted(directions)}
        if rule.sinks is not None:
            found, first = ordinary.sinks(rule.sinks)
            rule.extraction.setdefault("sinks", {})[name] = {
                "states": found,
                "first_tokens": first,
                "tokens": ordinary.norms.shape[1],
                "sequences": len(ordinary.first),
            }
        if key in searched and not settled:
            search = largest_strength(model, blocks, rule, name, known(), budget, searched[key])
            rule.strength = search.strength
            rule.extraction["strength_search"] = search.as_dict()
        rule.dose[name] = doses(model, blocks, rule, name, ordinary, whole=whole)


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


def doses(
    model: nn.Module,
    blocks: Blocks,
    rule: Rule,
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
        rule: With directions and typical norms.
        name: Of the set of directions that was fitted on these weights.
        ordinary: Of the model as it is now.
        strength: Instead of the rule's.
        whole: As of `ordinary_states`.
    """
    taken = rule.strength if strength is None else strength
    found = {}
    for layer in rule.steered_layers(name):
        number = taken.get(layer) if isinstance(taken, Mapping) else taken
        moved, tokens = 0.0, 0
        changes = [] if number is None else changes_of(model, blocks, rule, name, {layer: number})
        with steering(blocks.decoder, changes, blocks.callers):
            for ids, before in zip(ordinary.sequences if changes else (), ordinary.states, strict=False):
                (after,) = run_and_read(blocks, ids, [blocks.layers[layer]], whole=whole)
                moved += float((after - before[layer]).norm(dim=-1).sum())
                tokens += len(ids)
        found[layer] = moved / max(1, tokens) / float(ordinary.stream[layer])
    return found
