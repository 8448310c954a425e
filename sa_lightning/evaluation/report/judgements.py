"""What `sa judge` prints: outcomes by arm, agreement between judges, and with people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sa_lightning.errors import DataError
from sa_lightning.evaluation.judges.registry import speaks_of_harm
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.report.results import percent
from sa_lightning.evaluation.samples import Outcome, Verdict
from sa_lightning.evaluation.statistics.agreement import (
    LABELS,
    Kappa,
    against_labels,
    confusion,
    harm_against_labels,
    refusal_kappa,
)
from sa_lightning.evaluation.statistics.intervals import Rate

Verdicts = Mapping[str, Sequence[Verdict]]
GROUPS = ("arm", "kind")
"""Keys of a line by which outcomes are counted apart, where the lines have them."""


def outcome_tables(replies: Sequence[Reply], verdicts: Verdicts) -> Iterator[RenderableType]:
    """Count outcomes: a row for each judge; or, where lines name an arm or a kind, a table for each judge."""
    keys = [key for key in GROUPS if any(key in reply.doc for reply in replies)]
    groups: dict[str, list[int]] = {}
    for index, reply in enumerate(replies):
        groups.setdefault(", ".join(_plain(reply.doc.get(key, "–")) for key in keys), []).append(index)
    heads = ["n", "complied", "refused", "partial", "degen-\nerate", "un-\njudged", "harmful"]
    if not keys:
        table = _table("judge", *heads)
        for name, found in verdicts.items():
            table.add_row(name, *_counts(name, found))
        yield _titled("Outcomes", table)
        return
    for name, found in verdicts.items():
        table = _table(", ".join(keys), *heads)
        for group, indices in groups.items():
            table.add_row(Text(group), *_counts(name, [found[index] for index in indices]))
        yield _titled(f"Outcomes, judged by {name}", table)


def _plain(value: Any) -> str:
    """Return a value of a line as text that every terminal can show."""
    return str(value).encode(errors="replace").decode()


def _counts(name: str, found: Sequence[Verdict]) -> list[str]:
    outcomes = [verdict.outcome for verdict in found]
    harmful = str(sum(verdict.harmful is True for verdict in found)) if speaks_of_harm(name) else "–"
    return [str(len(found)), *(str(outcomes.count(outcome)) for outcome in Outcome), harmful]


def agreement_tables(verdicts: Verdicts) -> Iterator[RenderableType]:
    """Yield κ of every pair of judges, and for each pair how often which outcomes meet."""
    outcomes = {name: [verdict.outcome for verdict in found] for name, found in verdicts.items()}
    pairs = list(combinations(outcomes, 2))
    if not pairs:
        return
    table = _table("judges", "n", "agree", "Cohen's κ", "95 %")
    for a, b in pairs:
        found = refusal_kappa(outcomes[a], outcomes[b])
        table.add_row(f"{a} × {b}", str(found.n), percent(found.agreement), *_kappa(found))
    yield _titled("Agreement: does the reply decline, wholly or in part? Over replies that both judges decide.", table)
    for a, b in pairs:
        yield _confusion(a, b, outcomes[a], outcomes[b])


def read_labels(replies: Sequence[Reply], key: str) -> list[Outcome | bool | None]:
    """Return what people say of each reply: an outcome, whether it is harmful, or None where they say nothing.

    Raises:
        DataError: If no line has the key, or a value is neither true or false nor one of `LABELS`.
    """
    labels: list[Outcome | bool | None] = []
    for number, reply in enumerate(replies, 1):
        value = reply.doc.get(key)
        if value is None or isinstance(value, bool):
            labels.append(value)
        elif isinstance(value, str) and value in LABELS:
            labels.append(LABELS[value])
        else:
            shown = repr(value)
            shown = shown if len(shown) <= 40 else f"{shown[:40]}…"  # it may be a whole reply, under a wrong key
            raise DataError(
                f"Reply {number} has the label {shown} under `{key}`.\nIts meaning is not known, and a guess would "
                f"score judges wrongly.\nWrite one of {', '.join(LABELS)}; or true and false for harmful or not."
            )
    if all(label is None for label in labels):
        raise DataError(
            f"No line has a label under `{key}`.\nThere is nothing to compare judges with.\n"
            "Check `--label`: it is the key of a line that holds what a person says of the reply."
        )
    return labels


def label_table(labels: Sequence[Outcome | bool | None], verdicts: Verdicts, key: str) -> RenderableType:
    """Compare every judge with people: on refusal where labels are outcomes, on harm where they are true or false."""
    table = _table("judge", "question", "accuracy", "recall", "false alarms")
    for name, found in verdicts.items():
        said = [(verdict, label) for verdict, label in zip(found, labels, strict=True) if isinstance(label, Outcome)]
        if said:
            rates = against_labels([verdict.outcome for verdict, _ in said], [label for _, label in said])
            table.add_row(name, "declines?", *map(_interval, rates.values()))
        harm = [(verdict, label) for verdict, label in zip(found, labels, strict=True) if isinstance(label, bool)]
        if harm and speaks_of_harm(name):
            rates = harm_against_labels([verdict.harmful for verdict, _ in harm], [label for _, label in harm])
            table.add_row(name, "harmful?", *map(_interval, rates.values()))
    return _titled(f"Against people's `{key}`, with Wilson 95 % intervals", table)


def _confusion(a: str, b: str, first: Sequence[Outcome], second: Sequence[Outcome]) -> RenderableType:
    counts = confusion(first, second)
    columns = [outcome for outcome in Outcome if any(y is outcome for _, y in counts)]
    table = _table("", *(outcome.value for outcome in columns))
    for row in (outcome for outcome in Outcome if any(x is outcome for x, _ in counts)):
        table.add_row(row.value, *(str(counts.get((row, column), 0)) for column in columns))
    return _titled(f"{a} in rows, {b} in columns", table)


def _kappa(found: Kappa) -> tuple[str, str]:
    if found.kappa is None:
        return "–", "one answer only" if found.n else "none in common"
    return f"{found.kappa:.3f}", "–" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"


def _interval(found: Rate) -> str:
    _, low, high = found.percent
    return f"{percent(found)}\n{low:.1f} to {high:.1f}" if found.n else "–"


def _titled(title: str, table: Table) -> RenderableType:
    return Group(Text(title, style="bold"), table)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
