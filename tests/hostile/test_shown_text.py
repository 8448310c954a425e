"""Text that others wrote is shown, not obeyed: on the terminal, in rich, Markdown, pages and plots."""

import ast
import io
import logging
import re
import sys
import warnings
from pathlib import Path

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from sa_lightning.evaluation.report.charts import lines
from sa_lightning.evaluation.report.curves import new_axes, save_figure
from sa_lightning.foreign import showing
from sa_lightning.foreign.showing import code, in_markdown, in_plot, markdown_table, shown
from sa_lightning.foreign.terminal import Terminal, styled

PACKAGE = Path(showing.__file__).parents[1]
HOSTILE = "a\x1b]52;c;eA==\x07\x9b2J\r\u202eb[/]c[red]d :bomb:\ud800"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SGR = re.compile(r"\x1b\[[0-9;]*m")


def test_what_would_be_obeyed_has_a_mark_and_letters_stay():
    assert not OBEYED.search(shown(HOSTILE))
    assert shown("a\r\nb\tc é 漢字 עברית 👩‍🚀") == "a\nb\tc é 漢字 עברית 👩‍🚀"
    every = "".join(map(chr, range(0x110000)))
    kept = set(shown(every))
    assert not [char for char in kept if OBEYED.match(char) and char not in "\n\t"]
    assert len(kept) > 1_100_000


def test_a_terminal_obeys_nothing_wherever_the_text_stands():
    file = io.StringIO()
    console = Terminal(file=file, width=200, force_terminal=True)
    table = Table(HOSTILE, title=HOSTILE, caption=Text(HOSTILE))
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    console.print(table)
    console.print(HOSTILE, Text(HOSTILE), {"key": HOSTILE})
    console.rule(HOSTILE)
    console.wrote(HOSTILE, HOSTILE)
    console.warn(HOSTILE, HOSTILE)
    console.print(styled((HOSTILE, "bold"), HOSTILE))
    written = SGR.sub("", file.getvalue())
    assert not OBEYED.search(written.replace("\n", ""))
    assert written.count("b[/]c[red]d :bomb:") >= 12


def test_a_bar_shows_names_as_they_are():
    file = io.StringIO()
    with Progress(TextColumn("{task.description}", markup=False), console=Terminal(file=file, width=80)) as bars:
        bars.add_task("out[/]x\x1b")
    assert "out[/]x" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_warnings_and_logs_of_libraries_are_shown(monkeypatch, capsys):
    for place, name in ((warnings, "formatwarning"), (sys, "excepthook")):
        monkeypatch.setattr(place, name, getattr(place, name))
    before = logging.getLogRecordFactory()
    try:
        showing.obey_nothing()
        record = logging.getLogger("x").makeRecord("x", 30, "f", 1, "%s", (HOSTILE,), None)
        assert not OBEYED.search(record.getMessage())
        assert not OBEYED.search(warnings.formatwarning(HOSTILE, UserWarning, "f", 1).replace("\n", ""))
        sys.excepthook(ValueError, ValueError(HOSTILE), None)
        assert not OBEYED.search(capsys.readouterr().err.replace("\n", ""))
    finally:
        logging.setLogRecordFactory(before)


def test_markdown_of_others_is_text():
    assert in_markdown("a | b ![x](u) [y](u) <img> `c` *d* _e_ f_g\nh &lt;") == (
        r"a \| b ![x\](u) [y\](u) &lt;img&gt; \`c\` \*d\* \_e\_ f_g h &amp;lt;"
    )
    assert code("a ``b`` | c\n") == "``` a ``b`` \\| c ```"
    table = markdown_table(["a", "b|"], [["x\n| y | z |", "[0.1, 0.2]"]])
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()] == [3, 3, 3]
    assert table.endswith("[0.1, 0.2] |\n")


def test_plots_take_names_as_text(tmp_path):
    axes = new_axes(1)[0]
    axes.plot([1, 2], [1, 2], label=in_plot("_$\\frac{x}$"))
    axes.set_title("$\\nosuch{$ \x1b")
    axes.set_xlabel("cost $5 and $6_")
    axes.set_yscale("log")
    axes.legend()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [" _$\\frac{x}$"]
    save_figure(axes, tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_size > 1000
    assert 'alt="norm of $\\nosuch{$ by' in lines({"$\\nosuch{$": [1.0, 2.0]}, "block", "norm")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_printed_past_the_one_place(path):
    """No markup in text, no console but `Terminal`, no bare `print` of what is not written here."""
    if path.name in ("terminal.py", "showing.py", "help_texts.py"):
        return
    tree = ast.parse(path.read_text())
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            wrong += re.findall(r"\[/?(?:bold|yellow|red|green|dim|italic)\]", node.value)
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("Console", "escape") and path.name != "charts.py":
            wrong.append(name)
        if name == "TextColumn" and "{" in ast.unparse(node) and "markup=False" not in ast.unparse(node):
            wrong.append(ast.unparse(node))
        if name == "print" and node.args and not _is_ours(node.args[0]):
            wrong.append(ast.unparse(node))
    assert not wrong


def _is_ours(value):
    """Whether text is a constant, shown, or JSON, whose letters beyond ASCII `sa data` writes of our own table."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) in ("shown", "json.dumps")
    return isinstance(value, ast.Constant) or ast.unparse(value) in ("HELP", "__version__", "text")
