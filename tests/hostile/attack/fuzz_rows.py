"""Mutated files of rows and replies through every reader: the rows that were written, sane ones, or our own errors."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

from sa_lightning.datamodules.prompts import read_prompts as read_asked
from sa_lightning.errors import SaError
from sa_lightning.evaluation.judges.replies import read_replies
from sa_lightning.fitting.prompts import harmless_prompts, read_prompts
from sa_lightning.rows import iter_rows
from sa_lightning.steering.demonstrations import read_demonstrations

from . import mutate

WORDS = (
    "how",
    "do",
    "i",
    "bake",
    "a cake",
    "ä",
    "日本",
    "\t",
    '"',
    "'",
    "\\",
    ",",
    "{",
    "\n",
    "sorry , no .",
    "\u2028",
    "\x1b[0m",
    "",
)


def _rows_of(draw, keys: tuple[str, ...]) -> list[dict]:
    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 9))) + " x"

    kinds = ("harmful", "harmless")
    return [{key: kinds[i % 2] if key == "kind" else text() for key in keys} for i in range(draw.randint(4, 12))]


#: Reader, the columns it wants, the formats it reads, and what it has read as a list of texts.
READERS: dict[str, tuple] = {
    "rows": (lambda path: [row for _, row in iter_rows(path)], ("prompt", "kind"), ("jsonl", "jsonl.gz", "json", "csv", "parquet", "xlsx"), lambda found, _: [row.get("prompt") if isinstance(row, dict) else None for row in found], "prompt"),
    "demonstrations": (lambda path: read_demonstrations(path)[0], ("question", "safe", "unsafe"), ("jsonl", "jsonl.gz", "json", "csv"), lambda found, _: [pair.safe for pair in found], "safe"),
    "gate prompts": (read_prompts, ("prompt", "kind"), ("jsonl", "jsonl.gz", "json", "csv"), lambda found, _: [one.text for kind in ("harmful", "harmless") for one in found.get(kind, [])], None),
    "ordinary prompts": (lambda path: harmless_prompts(str(path), []), ("prompt",), ("jsonl", "jsonl.gz", "json"), lambda found, _: found, "prompt"),
    "asked prompts": (lambda path: read_asked(str(path)), ("prompt",), ("jsonl", "jsonl.gz", "json", "csv"), lambda found, _: found, "prompt"),
    "replies": (read_replies, ("prompt", "response"), ("jsonl",), lambda found, _: [reply.response for reply in found], "response"),
}  # fmt: skip


def written(rows: list[dict], form: str) -> bytes:
    """Rows in a format."""
    if form == "json":
        return json.dumps(rows, ensure_ascii=False).encode()
    if form == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    if form == "parquet":
        import pyarrow
        from pyarrow import parquet

        sink = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        return sink.getvalue()
    if form == "xlsx":
        import openpyxl

        book, sink = openpyxl.Workbook(), io.BytesIO()
        book.active.append([*rows[0]])
        for row in rows:
            book.active.append([value.replace("\x1b", "") for value in row.values()])
        book.save(sink)
        return sink.getvalue()
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return gzip.compress(content, mtime=0) if form == "jsonl.gz" else content


def _neutral(content: bytes, form: str, draw) -> bytes:
    """Change what means nothing in a format of text."""
    if form == "jsonl.gz":
        return gzip.compress(_neutral(gzip.decompress(content), "jsonl", draw), mtime=0)
    if form in ("parquet", "xlsx"):
        return content
    ways = [lambda text: b"\xef\xbb\xbf" + text]
    if form == "jsonl":
        ways += [
            lambda text: text.replace(b"\n", b"\r\n"),
            lambda text: text.rstrip(b"\n"),
            lambda text: text.replace(b"\n", b"\n\n"),
        ]
    if form == "json":
        ways += [lambda text: b" \n" + text + b"\n"]
    return draw.choice(ways)(content)


def worker(root: Path, seed: int) -> Callable[[int], dict]:
    """Return what makes and reads the file of a number."""
    scratch = root / "mutants"
    scratch.mkdir(exist_ok=True)

    def work(number: int) -> dict:
        draw = mutate.drawn(seed, number)
        name = draw.choice([*READERS])
        read, keys, forms, texts, column = READERS[name]
        form, rows = draw.choice(forms), _rows_of(draw, keys)
        content, way = written(rows, form), draw.choice(["nothing", "bits", "cut", "values", "cut twice"])
        path = scratch / f"rows-{number}.{form}"
        if way == "nothing":
            content = _neutral(content, form, draw)
        elif way == "values":
            values = mutate.changed(rows, draw, draw.randint(1, 3))
            lines = values if isinstance(values, list) else [values]
            content = (
                json.dumps(values).encode()
                if form == "json"
                else "".join(json.dumps(row) + "\n" for row in lines).encode()
            )
        elif way == "bits":
            content = mutate.flipped(content, draw)
        else:
            content = mutate.cut(mutate.cut(content, draw) if way == "cut twice" else content, draw)
        path.write_bytes(content)
        what = f"{name}, {form}, {way}"
        try:
            found = read(path)
            kind = _sane(name, form, way, texts(found, rows), rows, column)
        except SaError as error:
            kind = {
                "kind": "wrong" if way == "nothing" else "refused",
                "said": str(error)[:300],
                "lines": len(str(error).splitlines()),
            }
        finally:
            path.unlink()
        return {"what": what, **kind}

    return work


def _sane(name, form, way, texts, rows, column) -> dict:
    if way == "nothing":
        if column is None:
            truth = [row["prompt"] for kind in ("harmful", "harmless") for row in rows if row["kind"] == kind]
        else:
            truth = [row[column] for row in rows]
        if form == "xlsx":
            truth = [text.replace("\x1b", "") for text in truth]
        if name in ("demonstrations",):
            truth, texts = [text.strip() for text in truth], [text.strip() for text in texts]
        if texts != truth:
            at = next(
                (i for i, (a, b) in enumerate(zip(texts, truth, strict=False)) if a != b), min(len(texts), len(truth))
            )
            return {
                "kind": "wrong",
                "said": f"{len(texts)} of {len(truth)}: {texts[at : at + 1]!r} for {truth[at : at + 1]!r}"[:300],
            }
    elif name != "rows":
        wrong = [text for text in texts if not isinstance(text, str) or _lone(text)]
        if wrong:
            return {"kind": "wrong", "said": f"read as a text: {wrong[0]!r}"[:200]}
    return {"kind": "right"}


def _lone(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
