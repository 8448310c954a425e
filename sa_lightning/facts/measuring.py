"""What an edit did: is the fact said, also in other words, and is all else said as before? One fact at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sa_lightning.facts.asking import Asking
from sa_lightning.facts.editor import Editor
from sa_lightning.facts.known import LENGTH
from sa_lightning.facts.record import Fact, begins_with, holds
from sa_lightning.files import Json
from sa_lightning.surgery import EditInMemory, EditSettings, LowRank, ModelWeights, plan_surgery

__all__ = ["MEASURES", "Outcome", "measure", "measure_one_by_one", "totals"]

MEASURES = ("efficacy", "likelier", "paraphrase", "locality")


@dataclass(frozen=True)
class Outcome:
    """What a model says of a fact, each as one true or false a prompt.

    Attributes:
        fact: The fact.
        efficacy: The greedy reply begins with the target.
        likelier: The target is likelier than `old`; nothing where that is not known.
        paraphrase: To the same in other words, the reply holds what is new in the target.
        locality: To a prompt about something else, the reply holds what it held before the edit.
    """

    fact: Fact
    efficacy: tuple[bool, ...]
    likelier: tuple[bool, ...]
    paraphrase: tuple[bool, ...]
    locality: tuple[bool, ...]

    def row(self) -> Json:
        """As a row, beside the fact's own."""
        return {"measured": {name: list(getattr(self, name)) for name in MEASURES}}


def measure(asking: Asking, facts: Sequence[Fact], length: int = LENGTH) -> list[Outcome]:
    """Ask a model, as it is now, for facts; neighbours without an answer are left out.

    Args:
        asking: The model.
        facts: As of `known`, or with answers written down.
        length: Most tokens of a reply.
    """
    near = [[one for one in fact.locality if one.answer] for fact in facts]
    asked = [
        [fact.prompt, *fact.paraphrases, *(one.prompt for one in own)] for fact, own in zip(facts, near, strict=True)
    ]
    every = list(dict.fromkeys(prompt for prompts in asked for prompt in prompts))
    said = dict(zip(every, asking.replies(every, length), strict=True))
    pairs = [(fact.prompt, answer) for fact in facts if fact.old for answer in (fact.target, fact.old)]
    likely = iter(asking.log_probabilities(pairs))
    return [
        Outcome(
            fact,
            (begins_with(said[fact.prompt], fact.target),),
            (next(likely) > next(likely),) if fact.old else (),
            tuple(holds(said[prompt], fact.news) for prompt in fact.paraphrases),
            tuple(holds(said[one.prompt], one.answer or "") for one in own),
        )
        for fact, own in zip(facts, near, strict=True)
    ]


def measure_one_by_one(editor: Editor, facts: Sequence[Fact]) -> Iterator[Outcome]:
    """Write each fact by itself into the model in memory, ask for it, and undo the edit, bit for bit."""
    weights = ModelWeights(editor.asking.model)
    for fact in facts:
        delta = LowRank(weights, editor.write([fact]))
        with EditInMemory(plan_surgery(delta, None, weights, EditSettings(), kind="facts"), weights):
            (found,) = measure(editor.asking, [fact])
        yield found


def totals(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """How many of how many prompts: k and n of each measure."""
    every = {name: [one for outcome in outcomes for one in getattr(outcome, name)] for name in MEASURES}
    return {name: (sum(found), len(found)) for name, found in every.items()}
