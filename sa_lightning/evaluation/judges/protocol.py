"""What a judge is: from replies to verdicts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.samples import Outcome, Verdict

Rule = Callable[[str, str, Mapping[str, Any]], Outcome]
"""From a prompt, a reply and its document to an outcome."""


Progress = Callable[[int, int], None]
"""Told how many are done, and of how many."""


class Judge(Protocol):
    """Says of each reply what became of it, in order."""

    def __call__(self, replies: Sequence[Reply], progress: Progress | None = None) -> list[Verdict]: ...
