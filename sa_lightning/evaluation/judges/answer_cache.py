"""Answers of a judge, on disk as soon as they are given, so that none is asked for twice."""

from pathlib import Path
from typing import Any

from sa_lightning.files import json_digest
from sa_lightning.rows import append_row, cut_tail, ended_lines, loads


class Answers:
    """A file with one answer a line; what a kill has cut short is forgotten, and asked again.

    Args:
        path: The file, read if it exists. None keeps answers in memory alone.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._known: dict[str, str] = {}
        if self.path is None or not self.path.exists():
            return
        cut_tail(self.path, "key")
        for line in ended_lines(self.path):
            try:
                row = loads(line.decode())
                self._known |= {row["key"]: row["answer"]} if isinstance(row["answer"], str) else {}
            except (ValueError, TypeError, KeyError):
                continue

    def __len__(self) -> int:
        """Return how many answers there are."""
        return len(self._known)

    def find(self, key: str) -> str | None:
        """Return the answer to a question, or None."""
        return self._known.get(key)

    def add(self, key: str, answer: str) -> None:
        """Keep an answer."""
        self._known[key] = answer
        if self.path is not None:
            append_row(self.path, {"key": key, "answer": answer})

    def remove(self) -> None:
        """Delete the file, once its answers are in a result."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def key_of(*parts: Any) -> str:
    """Return an identity of a question: who is asked, what, and how."""
    return json_digest(parts)
