"""What is asked of a model, and how replies are made."""

from dataclasses import dataclass, field
from typing import Any

from sa_lightning.ranges import check_fields


@dataclass
class EvaluationSettings:
    """What is asked, and how replies are judged.

    Args:
        tasks: lm-eval tasks, groups or tags, ours or lm-eval's own. What a group or tag names and is not at hand is
            left out, and said.
        limit: Ask only the first so many prompts of each task.
        batch_size: Most prompts that run together; as many as suit the device if not set.
        max_new_tokens: Most tokens of a reply, in place of what each task says. Replies that end there are counted as
            `cut`.
        task_dirs: Further directories with lm-eval task files.
        metadata: Handed to the tasks; those of the tiny world read `world` (its directory) and `split`.
    """

    tasks: list[str] = field(default_factory=list)
    limit: int | None = None
    batch_size: int | None = None
    max_new_tokens: int | None = None
    task_dirs: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a number of nothing."""
        check_fields(self, "evaluation")
