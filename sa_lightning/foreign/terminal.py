"""A terminal that obeys none of the text that it shows: no markup, no control characters."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from sa_lightning.foreign.showing import shown

__all__ = ["Terminal", "styled"]


class Terminal(Console):
    """A console of rich that takes text as text: style is given beside it (`styled`), never within.

    Args:
        settings: Those of `rich.console.Console`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    @override
    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(shown(text), **settings)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, and mark what is left to obey in text that was styled elsewhere; rich's own codes stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)

    def wrote(self, path: object, what: str = "") -> None:
        """Name a file or directory that was written, and say what it holds."""
        self.print(styled((path, "bold"), f"  {what}" if what else ""), soft_wrap=True)

    def warn(self, what: str, text: str) -> None:
        """Print a line that begins with a word of warning."""
        self.print(styled((what, "yellow"), f" {text}"), soft_wrap=True, highlight=False)


def styled(*parts: object) -> Text:
    """Put text together: each part as it is, or a pair of a part and a style."""
    return Text.assemble(
        *((shown(part[0]), str(part[1])) if isinstance(part, tuple) else shown(part) for part in parts)
    )
