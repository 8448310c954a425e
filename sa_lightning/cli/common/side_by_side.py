"""Replies of several arms to the same prompts, one under the other."""

from pathlib import Path

from rich.table import Table

from sa_lightning.foreign.terminal import Terminal, styled
from sa_lightning.rows import read_rows

HARMLESS = ("borderline", "harmless")
WORDS = 40  # of a reply


def show_replies(path: Path, kind: str, count: int, console: Terminal) -> None:
    """Print the first prompts of a kind to which some arm replies in another way than the first, with all replies.

    Only of prompts that ask for no harm are replies ever printed.

    Args:
        path: replies.jsonl of `sa validate`.
        kind: Of the prompts: `borderline` or `harmless`.
        count: Most prompts.
        console: Where to.
    """
    assert kind in HARMLESS, kind
    rows = read_rows(path)
    asked: dict[str, dict[str, dict]] = {}
    for row in rows:
        if row["kind"] == kind:
            asked.setdefault(row["prompt"], {})[row["arm"]] = row
    turned = [arms for arms in asked.values() if len({row["outcome"] for row in arms.values()}) > 1]
    changed = [arms for arms in asked.values() if len({row["response"] for row in arms.values()}) > 1]
    shown = [*turned[: count - 1], *(arms for arms in changed if arms not in turned)][:count]
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    for arms in shown:
        table.add_row("", styled((next(iter(arms.values()))["prompt"], "bold")))
        for arm, row in arms.items():
            words = row["response"].split()
            text = " ".join(words[:WORDS]) + (" …" if len(words) > WORDS else "")
            table.add_row(arm, styled((f"{row['outcome']}:", "dim"), f" {text}"))
        table.add_row("", "")
    if shown:
        console.print(table)
    else:
        console.print(f"No arm replies to a {kind} prompt in another way than the others.")
    console.print(
        f"In {len(turned)} of {len(asked)} such prompts what became of the reply differs between arms; shown are the "
        f"first {min(len(turned), count - 1)} of these, and others whose replies differ."
    )
