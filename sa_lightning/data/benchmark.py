"""What a row of the table says of a data set: where it lies, under which licence, where its rows keep prompts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sa_lightning.errors import DataError

__all__ = ["ARXIV", "GITHUB", "Benchmark", "Hub", "Layout", "Part", "Row", "reading"]

Kind = Literal["harmful", "harmless", "borderline", "mixed", "utility", "pairs", "labelled"]
Row = Mapping[str, Any]

ARXIV = "https://arxiv.org/abs/"
GITHUB = "https://github.com/"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where a part lies on the Hugging Face Hub.

    Args:
        id: Data set.
        split: Its split.
        config: Its configuration.
        data_dir: Its directory, where configurations are directories.
        revision: Commit; `main` where none has been tested, and it moves.
        renamed: The Hub's name of a column to the file's.
        gated: Whether one must log in.
    """

    id: str
    split: str
    config: str | None = None
    data_dir: str | None = None
    revision: str = "main"
    renamed: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """A split of a data set, or one of its files.

    Args:
        files: Layouts that are looked for below `$SA_DATA_DIR`, in this order; `{member}` is one of several files.
        n: Rows that its authors published.
        columns: What every row must have.
        names: Names of columns where the file has none.
        hub: Where else it comes from.
        sha256: Of copies known to us; of several files, of their `sha256sum` listing.
        copy: Rows of our copy, where it is a subset.
    """

    files: tuple[str, ...]
    n: int
    columns: tuple[str, ...]
    names: tuple[str, ...] = ()
    hub: Hub | None = None
    sha256: tuple[str, ...] = ()
    copy: int | None = None

    @property
    def has_members(self) -> bool:
        """Whether it has several files."""
        return "{member}" in self.files[0]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the rows of a data set keep what a document needs.

    Args:
        prompt: Column, or function of the row.
        id: Column; the number of the row where there is none.
        category: Column, or function of the row; empty where there is none.
        cluster: Function of the row, where a benchmark says which prompts are variants.
        rows: What to make of the rows first.
    """

    prompt: str | Callable[[Row], str]
    id: str = ""
    category: str | Callable[[Row], str] = ""
    cluster: Callable[[Row], str] = lambda row: ""
    rows: Callable[[Iterable[Row]], Iterable[Row]] = lambda rows: rows


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set, with all that this project knows of it.

    Args:
        kind: What its prompts are, or `pairs` (demonstrations), `labelled` (replies with human labels).
        licence: As stated by its authors.
        redistributable: Whether the licence lets a package carry it.
        paper: Where it was published.
        source: Where its files lie, in the layout that is read.
        parts: Name to part; the first is the main one.
        note: What a reader of its numbers should know.
        by_hand: The second way to get a set that cannot be loaded from the Hub.
        layout: Where its rows keep prompts whose replies are judged; None where none are.
        tasks: The lm-eval tasks, or the group, that ask it, each with its number of documents.
    """

    kind: Kind
    licence: str
    redistributable: bool
    paper: str
    source: str
    parts: Mapping[str, Part]
    note: str = ""
    by_hand: str = "it is not on the Hub in this form: clone that repository, and copy the file."
    layout: Layout | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def reading(name: str, number: int) -> Iterator[None]:
    """Say which row it is that has not the layout of its data set.

    Args:
        name: Of the data set.
        number: Of the row, from 0.

    Raises:
        DataError: Instead of what a malformed row leads to.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"Row {number + 1} of {name} cannot be read: {reason}.\nA set is asked whole or not at all.\n"
            "Mend or take out the row, or fetch the data set again."
        ) from error
