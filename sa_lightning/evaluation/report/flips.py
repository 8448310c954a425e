"""Flips: prompts that count in one arm and not in the other, with both replies, harmful ones hidden unless asked."""

from collections.abc import Sequence

from sa_lightning.evaluation.samples import Sample
from sa_lightning.evaluation.statistics.comparisons import PAIRED
from sa_lightning.evaluation.statistics.rates import MEASURES, Summary

EACH_WAY = 6
LONGEST = 1200


def flips(
    a: Sequence[Sample], b: Sequence[Sample], *, show_replies: bool = False, each_way: int = EACH_WAY
) -> list[Summary]:
    """Return, measure by measure and way by way, the prompts in which two arms differ.

    Args:
        a: Samples of one arm.
        b: Samples of the other; prompts that one arm alone was asked are passed over.
        show_replies: Give replies to harmful prompts too.
        each_way: Show at most so many prompts of a measure in each way, spread evenly over all of them.

    Returns:
        Rows with `metric`, `only` (`a` or `b`: where the prompt counts), `count` of all, and `prompts`:
        task, id, kind, category, prompt, what became of it in each arm, and both replies: none where they are
        `hidden`, or where the task only compares likelihoods.
    """
    others = {(sample.task, sample.id): sample for sample in b}
    pairs = [(one, others[one.task, one.id]) for one in a if (one.task, one.id) in others]
    rows = []
    for metric in PAIRED:
        is_over, counts = MEASURES[metric]
        for only, wanted in (("a", (True, False)), ("b", (False, True))):
            found = [(x, y) for x, y in pairs if is_over(x) and (counts(x), counts(y)) == wanted]
            if found:
                step = max(1.0, len(found) / each_way)
                chosen = [found[int(number * step)] for number in range(min(each_way, len(found)))]
                prompts = [_shown(x, y, show_replies) for x, y in chosen]
                rows.append({"metric": metric, "only": only, "count": len(found), "prompts": prompts})
    return rows


def _shown(one: Sample, other: Sample, show_replies: bool) -> Summary:
    hidden = one.kind == "harmful" and not show_replies
    return {
        "task": one.task,
        "id": one.id,
        "kind": one.kind,
        "category": one.category,
        "prompt": readable(one.prompt, 400),
        "became": [_became(one), _became(other)],
        "hidden": hidden,
        "replies": [] if hidden or not (one.reply or other.reply) else [readable(one.reply), readable(other.reply)],
    }


def _became(sample: Sample) -> str:
    if sample.outcome is not None:
        return sample.outcome.value
    return "right" if sample.correct else "wrong"


def readable(text: str, longest: int = LONGEST) -> str:
    """Return text for people: control characters that could hide or reorder it are made visible, its end is cut."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= longest else f"{shown[:longest]} … ({len(shown) - longest} more characters)"
