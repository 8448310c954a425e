"""Sample: one prompt, the reply to it, and what became of it."""

from dataclasses import dataclass

from sa_lightning.evaluation.refusal import Outcome

JUDGED_KINDS = ("harmful", "harmless", "borderline")


@dataclass(frozen=True)
class Sample:
    """One document of a task, answered and judged.

    Args:
        task: Name of the lm-eval task.
        kind: harmful, harmless, borderline or utility.
        id: The document's own id, unique within its task.
        prompt: What was asked, without chat template.
        reply: What the model said; empty where the task only compares likelihoods.
        outcome: The judge's; None for utility.
        correct: Whether the answer was right; None where a judge judged.
    """

    task: str
    kind: str
    id: str
    prompt: str
    reply: str
    outcome: Outcome | None = None
    correct: bool | None = None
