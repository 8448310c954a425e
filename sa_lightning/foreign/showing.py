"""Text that others wrote, made safe to show: as a line, on a terminal, in Markdown, in a plot.

Replies, prompts, names, paths and messages are data, wherever they come from. A terminal obeys control characters in
them (its title, its clipboard, lines already written); a page obeys Markdown and HTML. Files for programs keep text as
it is; whatever a person sees goes through here, or through `terminal.Terminal`, which asks here.
"""

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

__all__ = ["code", "in_markdown", "in_plot", "markdown_table", "obey_nothing", "one_line", "shown"]

#: C0 but tab and line feed, DEL, C1; separators of lines, overrides and isolates of direction, annotations, tags that
#: nobody sees, halves of surrogate pairs.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
#: What Markdown reads; brackets only where they could be a link's, for intervals are written in them.
_MARKUP = re.compile(r"[\\`|*<>]|\](?=[(\[:])|~(?=~)|(?<![^\W_])_|_(?![^\W_])|&(?=#|\w+;)")


def shown(text: object) -> str:
    r"""Return text with a mark such as `\x1b` for each character that would be obeyed rather than seen.

    Line feeds and tabs stay, `\r\n` is a line feed, letters of every script stay.

    Example:
        >>> print(shown("a\x1b]52;c;eA==\x07b\u202ec"))
        a\x1b]52;c;eA==\x07b\u202ec
    """
    return _OBEYED.sub(lambda found: _mark(found[0]), str(text).replace("\r\n", "\n"))


def _mark(character: str) -> str:
    return character.encode("unicode_escape").decode()


def one_line(text: object) -> str:
    """Return text in one line, with marks for what would be obeyed."""
    return shown(" ".join(str(text).split()))


def in_markdown(text: object) -> str:
    r"""Return text that Markdown shows as it is, within a line or a cell: no link, image, HTML or end of the cell.

    Example:
        >>> print(in_markdown("a|b ![x](http://y) <b> my_name _it_ [1, 2]"))
        a\|b ![x\](http://y) &lt;b&gt; my_name \_it\_ [1, 2]
    """
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return _MARKUP.sub(lambda found: entities.get(found[0], f"\\{found[0]}"), one_line(text))


def code(text: object) -> str:
    """Return text as code within a line or a cell of Markdown, between more backticks than it holds."""
    line = one_line(text)
    ticks = re.findall("`+", line)
    fence, blank = "`" * (1 + max(map(len, ticks), default=0)), " " if ticks else ""
    return f"{fence}{blank}{line or ' '}{blank}{fence}".replace("|", "\\|")


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of Markdown, every cell as `in_markdown` shows it."""
    lines = [list(map(in_markdown, head)), ["---"] * len(head), *(list(map(in_markdown, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def in_plot(name: object) -> str:
    """Return the name of a series as matplotlib's legends show it: they leave out names that begin with `_`."""
    line = one_line(name)
    return f" {line}" if line.startswith("_") else line


def obey_nothing() -> None:
    """Let nothing that this process prints be obeyed: messages of libraries, warnings, tracebacks."""
    logging.setLogRecordFactory(_Record)
    if warnings.formatwarning is not _warning:
        _plain_warning.append(warnings.formatwarning)
        warnings.formatwarning = _warning  # pyright: ignore[reportAttributeAccessIssue]
    sys.excepthook = _exception


class _Record(logging.LogRecord):
    """What is logged, shown."""

    def getMessage(self) -> str:
        return shown(super().getMessage())


_plain_warning: list[Any] = []


def _warning(*args: Any, **more: Any) -> str:
    return shown(_plain_warning[-1](*args, **more))


def _exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(shown("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
