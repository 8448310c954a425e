"""The table of data sets and their tasks in tasks/README.md, as a command that writes it."""

from sa_lightning.data.table import DATASETS
from sa_lightning.files import write_whole
from sa_lightning.resources import shipped

_BEGIN, _END = "<!-- python -m sa_lightning.data.task_table -->\n", "<!-- end -->\n"


def task_table() -> str:
    """Return the data sets that tasks ask as a table in Markdown, in the order of the table of data sets."""
    lines = ["| data set | tasks, with their documents | prompts | licence | paper |", "|---|---|---|---|---|"]
    for name, row in DATASETS.items():
        if row.tasks:
            tasks = ", ".join(f"`{task}` {count}" for task, count in row.tasks.items())
            paper = f"[{row.paper.rpartition('/')[2]}]({row.paper})"
            lines.append(f"| `{name}` | {tasks} | {row.kind} | {row.licence} | {paper} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """Return a page with the table between its two marks made anew."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{task_table()}{_END}{after}"


if __name__ == "__main__":
    page = shipped("tasks") / "README.md"
    write_whole(page, renewed(page.read_text(encoding="utf-8")))
