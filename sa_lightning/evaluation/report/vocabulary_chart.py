"""A plot of the words that the directions of each segment of layers write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa_lightning.evaluation.report.charts import image
from sa_lightning.evaluation.report.curves import COLOURS, new_axes, save_figure


def draw_vocabulary(vocabulary: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the logits of the top tokens of each segment as bars, words of refusal in another colour, into a file.

    Args:
        vocabulary: Weights to what the artifact says of their segments (`extraction["vocabulary"]`), one row each.
        path: The image to write; its ending says in which format.
    """
    save_figure(_axes(vocabulary), path)


def vocabulary_image(vocabulary: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the same as an `img` for a page; nothing without segments."""
    return (
        image(_axes(vocabulary).figure, "Words that the directions of segments of layers write") if vocabulary else ""
    )


def _axes(vocabulary: Mapping[str, Mapping[str, Any]]) -> Any:
    """The first axes of the figure."""
    from matplotlib.patches import Patch

    columns = max(len(found["segments"]) for found in vocabulary.values())
    grid = new_axes(columns, len(vocabulary))
    for row, (name, found) in enumerate(vocabulary.items()):
        for column, one in enumerate(found["segments"]):
            axes = grid[row * columns + column]
            places = range(len(one["tokens"]))
            axes.barh(places, one["logits"], color=[COLOURS[4] if said else COLOURS[5] for said in one["refusal"]])
            axes.set_yticks(places, [_drawable(token) for token in one["tokens"]], fontsize=8, parse_math=False)
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            steered = ", steered" if column == found["steered"] else ""
            axes.set_title(
                f"{name}, layers {one['layers'][0]} to {one['layers'][-1]}: {100 * one['score']:.0f} %{steered}",
                fontsize=9, loc="left", fontweight="bold" if steered else "normal",
            )  # fmt: skip
            axes.set_xlabel("logit of the unit component")
    grid[0].legend(
        handles=[Patch(facecolor=COLOURS[4], label="word of refusal"), Patch(facecolor=COLOURS[5], label="other")],
        fontsize=8, loc="lower right",
    )  # fmt: skip
    return grid[0]


def _drawable(token: str) -> str:
    """Write a token with the characters that the font has, and the others as their code points."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    from sa_lightning.steering.directions.vocabulary import visible  # here, for a report without it needs no torch

    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else c.encode("unicode_escape").decode() for c in visible(token))
