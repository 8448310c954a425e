"""Which replies changed at all, which were cut at the length limit, and what to warn of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sa_lightning.evaluation.refusal.detector import turns_late
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Sample
from sa_lightning.evaluation.statistics.intervals import Rate, rate
from sa_lightning.foreign import thoughts

DEGENERATE = 0.02
"""The largest share of degenerate replies, and of those that are cut off inside a thought, that is not warned of."""

CONTROL = "random-"

Replies = Mapping[tuple[str, str], str]
"""Task and id of a prompt to the reply to it."""


def replies_of(samples: Iterable[Sample]) -> dict[tuple[str, str], str]:
    """Return the judged replies by task and id."""
    return {(sample.task, sample.id): sample.reply for sample in samples if sample.kind in JUDGED_KINDS}


def changed(samples: Iterable[Sample], original: Replies | None) -> Rate:
    """Return how many judged replies differ from those of the original, character by character.

    Args:
        samples: Of one arm; prompts that the original was not asked do not count.
        original: The replies of the original; None, for the original itself or without one, gives n = 0.
    """
    if original is None:
        return rate(0, 0)
    replies = replies_of(samples)
    both = replies.keys() & original.keys()
    return rate(sum(replies[key] != original[key] for key in both), len(both))


def cut(samples: Iterable[Sample]) -> Rate:
    """Return how many generated replies end at the length limit; those of which it is not known do not count."""
    known = [sample.cut for sample in samples if sample.cut is not None]
    return rate(sum(known), len(known))


def thoughts_cut(samples: Iterable[Sample]) -> Rate:
    """Return how many judged replies end inside a thought, so that there is none to judge: they are unjudged."""
    within = [thoughts.answer(one.reply) is None for one in samples if one.outcome is not None]
    return rate(sum(within), len(within))


def late(samples: Iterable[Sample]) -> Rate:
    """Return how many judged replies say one thing for their first sixty words or so, and the other behind.

    A limit of new tokens decides what is seen of these (`turns_late`).
    """
    turned = [turns_late(one.prompt, one.reply) for one in samples if one.outcome is not None]
    return rate(sum(turned), len(turned))


def cut_outcomes(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Count the outcomes of replies that were cut, by the kind of their prompts; kinds without any are left out."""
    found = [(sample.kind, sample.outcome) for sample in samples if sample.cut and sample.outcome is not None]
    return {
        kind: {outcome.value: found.count((kind, outcome)) for outcome in Outcome}
        for kind in JUDGED_KINDS
        if any(kind == one for one, _ in found)
    }


def warnings(arms: Mapping[str, Mapping[str, Any]], strength: Any = None, *, gated: bool = False) -> list[str]:
    """Say which arms have no effect on any reply, and which leave too little language; random controls are left out.

    Args:
        arms: Arm name to what `summarise` found; the first is what the others are held against.
        strength: Of the steering, to name it.
        gated: Whether a gate decides which prompts are steered.
    """
    found = []
    first = next(iter(arms.values()), None)
    for name, arm in arms.items():
        if name.startswith(CONTROL):
            continue
        differs, broken, within = arm["changed"], arm["degenerate"], arm.get("thoughts_cut", rate(0, 0))
        if differs.n and not differs.k:
            found.append(
                f"{name}: 0 of {differs.n} replies changed, so it has no effect. {_more(name, strength, gated)}"
            )
        if broken.n and broken.rate > DEGENERATE:
            share = f"{broken.k} of {broken.n} replies ({broken.percent[0]:.1f} %) are degenerate"
            if arm is first:
                found.append(f"{name}: {share}, without any change of ours. {_AS_IT_IS}")
            else:
                before = first["degenerate"] if first else broken
                found.append(f"{name}: {share} ({before.k} in {next(iter(arms))}). {_less(name, strength)}")
        if within.n and within.rate > DEGENERATE:
            found.append(
                f"{name}: {within.k} of {within.n} replies ({within.percent[0]:.1f} %) end inside their thought, and "
                "are unjudged. Allow more tokens (`--evaluation.max_new_tokens`), or leave thoughts out, where the "
                "template can (`--model.template_arguments '{enable_thinking: false}'`)."
            )
    return found


_AS_IT_IS = "Check how prompts are written (`--template`), and that the model is one that answers."


def _more(name: str, strength: Any, gated: bool) -> str:
    advice = []
    if _is_steered(name):
        advice.append(f"raise `--steering.strength`{_now(strength)}, or fit with `--steering.strength auto`")
        if gated:
            advice.append("or its gate finds none of these prompts: lower `--steering.gate.threshold` at the fit")
    if "edited" in name:
        advice.append("fit with a larger `--surgery.scale` or `--surgery.density`")
    return _sentence(advice)


def _less(name: str, strength: Any) -> str:
    advice = []
    if _is_steered(name):
        advice.append(f"lower `--steering.strength`{_now(strength)}, or fit anew with a smaller `--steering.kl_budget`")
    if "edited" in name:
        advice.append("fit with a smaller `--surgery.scale` or `--surgery.density`")
    return _sentence(advice)


def _is_steered(name: str) -> bool:
    return name != "edited"


def _now(strength: Any) -> str:
    return f" (it is {strength:.3g})" if isinstance(strength, int | float) else ""


def _sentence(advice: Sequence[str]) -> str:
    text = "; ".join(advice)
    return f"{text[:1].upper()}{text[1:]}."
