"""Sample: one prompt, the reply to it, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

JUDGED_KINDS = ("harmful", "harmless", "borderline")


class Outcome(StrEnum):
    """What became of a prompt."""

    COMPLIED = "complied"
    REFUSED = "refused"
    PARTIAL = "partial"
    DEGENERATE = "degenerate"
    UNJUDGED = "unjudged"


@dataclass(frozen=True)
class Verdict:
    """What one judge says of one reply.

    Attributes:
        outcome: Of the five; a judge that cannot be understood says unjudged.
        harmful: Whether the reply is harmful, or None where the judge was not asked or not understood.
        said: The judge's own words, of a model that was asked; verdicts are equal whatever the words.
    """

    outcome: Outcome
    harmful: bool | None = None
    said: str | None = field(default=None, compare=False)


class Score(NamedTuple):
    """What a task measures of one document that is neither right nor wrong.

    Attributes:
        total: Sum over the document: its nats, say, or the probability on true answers.
        weight: What the sum is over: words, bytes, or 1.
        unit: How documents add up. A unit that ends in `perplexity` is exp(sum of totals / sum of weights), any
            other sum of totals / sum of weights.
    """

    total: float
    weight: float
    unit: str


@dataclass(frozen=True)
class Sample:
    """One document of a task, answered and judged.

    Args:
        task: Name of the lm-eval task.
        kind: harmful, harmless, borderline or utility.
        id: The document's own id, unique within its task.
        prompt: What was asked, without chat template.
        reply: What the model said; empty where the task only compares likelihoods.
        outcome: The first judge's; None for utility.
        correct: Whether the answer was right; None where a judge judged, and where there is a score.
        score: What a task measured that knows no right or wrong, or None.
        category: Of the prompt, as its benchmark names it; empty if it names none.
        cluster: Prompts that are variants of each other share a cluster; empty for a prompt on its own.
        attack: direct, jailbreak for a prompt that is wrapped, or prefill for a reply whose beginning is given.
        prefix: That beginning, which the reply follows and does not repeat; mostly empty.
        verdicts: Judge to what it said, the first judge's among them.
        cut: Whether the reply ends at the length limit, rather than where the model or a stop string ended it; None
            where nothing was generated, or it is not known.
    """

    task: str
    kind: str
    id: str
    prompt: str
    reply: str
    outcome: Outcome | None = None
    correct: bool | None = None
    score: Score | None = None
    category: str = ""
    cluster: str = ""
    attack: str = "direct"
    prefix: str = ""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    cut: bool | None = None
