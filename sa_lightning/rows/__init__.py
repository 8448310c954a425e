"""Rows of files: read in any format that the field publishes data in, checked, and written as JSON Lines.

`reading` opens a file and yields its rows, `formats` knows the formats and `json_text` the JSON in them; `shapes` says
which keys a row must have; `lines` writes rows, and decides who may read them.
"""

from sa_lightning.rows.json_text import loads
from sa_lightning.rows.lines import (
    append_line,
    append_row,
    check_lines,
    cut_tail,
    ended_lines,
    holds_replies,
    json_line,
    json_lines,
    write_rows,
)
from sa_lightning.rows.reading import iter_rows, place, read_rows
from sa_lightning.rows.shapes import (
    ANSWERED,
    FACT,
    KIND,
    KNOWN_PROMPT,
    PROMPT,
    REPLY,
    Message,
    Prompt,
    Shape,
    check_text,
    conversation,
)

__all__ = [
    "ANSWERED",
    "FACT",
    "KIND",
    "KNOWN_PROMPT",
    "PROMPT",
    "REPLY",
    "Message",
    "Prompt",
    "Shape",
    "append_line",
    "append_row",
    "check_lines",
    "check_text",
    "conversation",
    "cut_tail",
    "ended_lines",
    "holds_replies",
    "iter_rows",
    "json_line",
    "json_lines",
    "loads",
    "place",
    "read_rows",
    "write_rows",
]
