"""Requests to a model, and the batches they are dealt to: alike in length, under a budget of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sa_lightning.files import json_digest

# Most tokens of a batch where no number of rows was asked for. Replies hold keys and values of all their tokens,
# the two others logits, which are larger; a CPU gains nothing from more.
BUDGETS = {
    "cpu": {"generate_until": 8192, "loglikelihood": 2048, "loglikelihood_rolling": 2048},
    "other": {"generate_until": 32768, "loglikelihood": 8192, "loglikelihood_rolling": 8192},
}
ROWS = 1024


@dataclass
class Request:
    """What is asked once, however often lm-eval asks it.

    Attributes:
        instance: The first of lm-eval's that ask it.
        key: Of everything the answer depends on besides the model.
        unit: Requests that belong in one batch share it.
        settings: Requests of one batch have the same: how a reply is decoded.
        rows: How many sequences it runs; 0 if it shares that of another request of its unit.
        width: Tokens of the longest of them, the reply's among them.
        sampled: Whether the answer is drawn at random.
    """

    instance: Any
    key: str
    unit: str
    settings: str
    rows: int
    width: int
    sampled: bool = False


@dataclass
class Batch:
    """Requests that run together.

    Attributes:
        requests: Longest first.
        rows: Sequences.
        width: Tokens of the longest.
        most: Sequences that may run at once; fewer than `rows` where one unit alone has more.
    """

    requests: list[Request]
    rows: int
    width: int
    most: int

    @property
    def digest(self) -> str:
        """What is in it."""
        return json_digest([self.most, *(request.key for request in self.requests)])


def budget_for(kind: str, device: str) -> int:
    """Return the most tokens a batch of a type of request may have on a type of device, padding included."""
    return BUDGETS.get(device, BUDGETS["other"])[kind]


def deal(requests: Sequence[Request], budget: int, most_rows: int | None = None, most: int = ROWS) -> list[Batch]:
    """Deal requests to batches, whole units at a time, the longest first.

    Args:
        requests: In any order; where they are alike in length, theirs is kept.
        budget: Most tokens a batch may have; a single unit may have more, and then runs in parts.
        most_rows: Most rows a batch may have, whatever their length; the budget then does not count.
        most: Most rows a batch may have under the budget.
    """
    units: dict[tuple[str, str], list[Request]] = {}
    for request in requests:
        units.setdefault((request.settings, request.unit), []).append(request)
    ordered = sorted(
        (sorted(unit, key=lambda request: -request.width) for unit in units.values()),
        key=lambda unit: (unit[0].settings, -unit[0].width, -sum(request.rows for request in unit)),
    )
    batches: list[Batch] = []
    for unit in ordered:
        rows, last = sum(request.rows for request in unit), batches[-1] if batches else None
        if last is None or last.requests[0].settings != unit[0].settings or last.rows + rows > last.most:
            width = unit[0].width
            batches.append(Batch([], 0, width, most_rows or min(most, max(1, budget // width))))
        batches[-1].requests += unit
        batches[-1].rows += rows
    return batches
