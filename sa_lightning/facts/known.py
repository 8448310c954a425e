"""Facts that a model knows, found by asking it, and what it says to their neighbours."""

import dataclasses
import re
from collections.abc import Sequence

from sa_lightning.facts.asking import Asking
from sa_lightning.facts.record import Fact, Neighbour, holds, words

__all__ = ["LENGTH", "known"]

LENGTH = 16  # tokens of a reply that are looked at
AT_ONCE = 10  # words within which a fact is said that is known


def known(asking: Asking, facts: Sequence[Fact]) -> list[Fact]:
    """Keep the facts whose `old` is in what the model says, put into the model's own words.

    `old` becomes the reply up to where it says the fact, and `target` the same with the new answer in its place:
    "Paris" and "Rome" become "The capital of France is Paris" and "The capital of France is Rome". So an edit changes
    what is said and not how. Of the paraphrases those stay whose replies hold `old`, too. The answers of `locality` are
    what the model says. Facts without `old` are left out.

    Args:
        asking: The model, before any edit.
        facts: With `old`, a few words.
    """
    facts = [fact for fact in facts if fact.old]
    prompts = [fact.prompt for fact in facts]
    others = [text for fact in facts for text in (*fact.paraphrases, *(near.prompt for near in fact.locality))]
    every = list(dict.fromkeys([*prompts, *others]))
    replies = dict(zip(every, asking.replies(every, LENGTH), strict=True))
    found = []
    for fact in facts:
        old = fact.old or ""
        said = re.search(rf"\b{re.escape(old)}\b", replies[fact.prompt], re.IGNORECASE)
        if (
            said is None
            or len(words(replies[fact.prompt][: said.end()])) > AT_ONCE
            or holds(replies[fact.prompt][: said.start()], fact.target)
        ):
            continue
        before, rest = replies[fact.prompt][: said.start()], replies[fact.prompt][said.end() :]
        end = rest[:1] if rest[:1] in set(".,;!") else ""  # so that the answer ends where the old one did
        found.append(
            dataclasses.replace(
                fact,
                old=before + said[0] + end,
                target=before + fact.target + end,
                paraphrases=tuple(one for one in fact.paraphrases if holds(replies[one], old)),
                locality=tuple(one for near in fact.locality if (one := _said(near, replies[near.prompt]))),
            )
        )
    return found


def _said(near: Neighbour, reply: str) -> Neighbour | None:
    """A neighbour with what the model says to it; with a given answer, None where the model says another."""
    if near.answer is None:
        return Neighbour(near.prompt, reply)
    said = re.search(rf"\b{re.escape(near.answer)}\b", reply, re.IGNORECASE)
    return None if said is None else near
