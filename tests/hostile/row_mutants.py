"""Files of rows, changed at random: each is read with sane values, or refused in our own words.

`python tests/hostile/row_mutants.py 1000` prints a table.
"""

import csv
import gzip
import io
import json
import random
import re
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

SEED, SLOWEST = 11, 10.0
TEXTS = ["how do i bake a cake", "a,b", 'say "so"', "one\ntwo", "\u2028 three", "ü ☃ 😀", "=1+1", "'"]
EVIL = [
    *(None, True, -1, 0.5, 1e308, 10**5000, float("nan"), "", " ", [], {}, [["a"]], {"role": "user"}, "\ud83d"),
    "x" * 200_000,
]
BYTES = [
    *(
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b'"',
        b",",
        b"\xe2\x80\xa8",
        b"\\ud800",
        b"null",
    ),
    *(b"[" * 3000, b'{"a":' * 3000, b"9" * 6000, b"NaN", b"-Infinity", b"1e999", b"\x1b]0;x\x07", b"\x1f\x8b\x08"),
    b"PK\x03\x04",
]
ENDINGS = ["jsonl", "json", "csv", "tsv", "txt", "xlsx", "parquet", "jsonl.gz", "json.gz", "csv.gz", "CSV", "lines"]


def valid_rows(draw: random.Random) -> list[object]:
    """Rows of one of the shapes that are read."""
    shape = draw.choice(["prompt", "goal", "kind", "pair", "questions", "reply", "answer", "chosen"])

    def text() -> str:
        return draw.choice(TEXTS) + f" {draw.randrange(99)}"

    def turns() -> str:
        return f"\n\nHuman: {text()}\n\nAssistant: {text()}"

    make: dict[str, Callable[[int], object]] = {
        "prompt": lambda n: {"prompt": text()},
        "goal": lambda n: {"id": n, "goal": text()},
        "kind": lambda n: {"prompt": text(), "kind": ["harmful", "harmless"][n % 2], "group": n // 2},
        "pair": lambda n: {"question": text(), "safe": text(), "unsafe": text()},
        "questions": lambda n: {"harmless": text(), "harmful": text()},
        "reply": lambda n: {"prompt": text(), "response": text(), "arm": "original"},
        "answer": lambda n: {"prompt": text(), "answer": text(), "kind": "harmless"},
        "chosen": lambda n: {"chosen": turns(), "rejected": turns()},
    }
    return [make[shape](number) for number in range(draw.randrange(1, 5))]


def encoded(rows: list, ending: str, draw: random.Random) -> bytes:
    """The rows in a format, as other programs would write them."""
    kind = ending.lower().removesuffix(".gz")
    if kind == "json":
        content = json.dumps(rows, indent=draw.choice([None, 1]), ensure_ascii=draw.random() < 0.5)
    elif kind in ("csv", "tsv"):
        stream = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
        writer = csv.writer(stream, delimiter=",\t"[kind == "tsv"], lineterminator=draw.choice(["\n", "\r\n"]))
        writer.writerow(columns)
        writer.writerows([row.get(key) for key in columns] if isinstance(row, dict) else [row] for row in rows)
        content = stream.getvalue()
    elif kind == "txt":
        content = "".join(f"{next(iter(row.values()), '') if isinstance(row, dict) else row}\n" for row in rows)
    elif kind == "xlsx":
        return sheet(rows, draw)
    elif kind == "parquet":
        return table(rows)
    else:
        content = "".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n" for row in rows)
    return content.encode(draw.choice(["utf-8"] * 8 + ["utf-8-sig", "latin-1", "utf-16"]), "replace")


def sheet(rows: list, draw: random.Random) -> bytes:
    import openpyxl
    from openpyxl.utils.exceptions import IllegalCharacterError

    book, stream = openpyxl.Workbook(), io.BytesIO()
    columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    book.worksheets[0].append(columns)
    for row in rows:
        try:
            cells = [row.get(key) for key in columns] if isinstance(row, dict) else [row]
            cells = [None if cell is None else str(cell).encode("utf-8", "replace").decode() for cell in cells]
            book.worksheets[0].append(cells)
        except (ValueError, IllegalCharacterError):
            book.worksheets[0].append([])
    book.save(stream)
    packed = io.BytesIO()  # again, without the time; a member is changed within, so that its checksum is right
    with zipfile.ZipFile(stream) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        chosen = draw.choice([*archive.namelist(), *[""] * 8])
        for name in archive.namelist():
            content = re.sub(rb"20\d\d-\d\d-\d\dT[\d:.]+", b"2000-01-01T00:00:00", archive.read(name))
            other.writestr(zipfile.ZipInfo(name), damaged(content, draw) if name == chosen else content)
    return packed.getvalue()


def table(rows: list) -> bytes:
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    try:
        parquet.write_table(pyarrow.Table.from_pylist(rows), stream)
    except Exception:  # what pyarrow cannot write is written as text
        plain = [{"prompt": json.dumps(row)} for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(plain), stream)
    return stream.getvalue()


def changed_values(rows: list, draw: random.Random) -> list:
    """Rows of which one has another value, lacks one, is another thing, or stands twice."""
    number = draw.randrange(len(rows))
    row = dict(rows[number])
    key = draw.choice(list(row))
    how = draw.randrange(5)
    if how == 0:
        del row[key]
    elif how == 1:
        row[draw.choice(["kind", "group", "x", "prompt", "outcomes"])] = draw.choice(EVIL)
    elif how == 2:
        return [*rows[:number], draw.choice(EVIL), *rows[number + 1 :]]
    elif how == 3:
        row[key] = [row[key], {"role": "user", "content": row[key]}]
    else:
        row[key] = draw.choice(EVIL)
    return [*rows[:number], row, *rows[number + 1 :]]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Bytes of which some are other ones, missing, or there twice."""
    if not content:
        return draw.choice(BYTES)
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 1, 2, 8, 64]))
    how = draw.randrange(5)
    middle = [
        draw.choice(BYTES),
        b"",
        content[start:end] * 2,
        bytes(byte ^ (1 << draw.randrange(8)) for byte in content[start:end]),
        content[start:end] + draw.choice(BYTES),
    ][how]
    return content[:start] + middle + (b"" if draw.random() < 0.1 else content[end:])


def mutants(seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """Yield endings and contents of files without end, the same for the same seed."""
    draw = random.Random(seed)
    while True:
        ending, rows = draw.choice(ENDINGS), valid_rows(draw)
        where = draw.random()
        sys.set_int_max_str_digits(0)
        try:
            content = encoded(changed_values(rows, draw) if where < 0.6 else rows, ending, draw)
        finally:
            sys.set_int_max_str_digits(4300)
        if 0.4 < where < 0.95:
            content = damaged(content, draw)
        if ending.endswith(".gz"):
            content = gzip.compress(content, mtime=0)
            content = damaged(content, draw) if draw.random() < 0.3 else content
        if draw.random() < 0.05:
            ending = draw.choice(ENDINGS)
        yield ending, content


def readers() -> dict[str, Callable[[Path], list[str]]]:
    """All that read rows, each as a function from a file to the texts that it takes from there."""
    from sa_lightning.datamodules.prompts import read_prompts
    from sa_lightning.evaluation.judges.replies import read_replies
    from sa_lightning.evaluation.tasks.prompts import own
    from sa_lightning.fitting.examples import read_conversations
    from sa_lightning.fitting.prompts import harmless_prompts
    from sa_lightning.fitting.prompts import read_prompts as known_prompts
    from sa_lightning.rows import json_lines, read_rows
    from sa_lightning.steering import read_demonstrations

    return {
        "demonstrations": lambda path: [
            turn["content"] for pair in read_demonstrations(path)[0] for turn in pair.messages("safe")
        ],
        "prompts": lambda path: read_prompts(path),
        "gate prompts": lambda path: [prompt.text for found in known_prompts(path).values() for prompt in found],
        "ordinary": lambda path: harmless_prompts(str(path), []),
        "examples": lambda path: [turn["content"] for turns in read_conversations(path, None, None) for turn in turns],
        "own tasks": lambda path: list(own(prompts=str(path), kind="harmful")["test"]["prompt"]),
        "replies": lambda path: [json_lines([reply.doc]) for reply in read_replies(path)],
        "rows": lambda path: [json_lines(read_rows(path))],
    }


def attack(count: int, directory: Path, seed: int = SEED) -> Counter[tuple[str, str]]:
    """Let every reader read so many files.

    Returns:
        How often each reader has read or refused one.

    Raises:
        AssertionError: If one raised something else, gave a text that no model can take, or took too long.
    """
    found: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    known = readers()
    for number, (ending, content) in enumerate(islice(mutants(seed), count)):
        path = directory / f"{number}.{ending}"
        path.write_bytes(content)
        for name, read in known.items():
            begun = time.monotonic()
            outcome = outcome_of(name, read, path)
            if time.monotonic() - begun > SLOWEST:
                outcome = "took too long"
            if outcome not in ("read", "refused"):
                failures.append(f"file {number} of seed {seed} (.{ending}), {name}: {outcome}")
            found[name, outcome] += 1
        path.unlink()
    assert not failures, "\n".join(failures[:20])
    return found


def outcome_of(name: str, read: Callable[[Path], list[str]], path: Path) -> str:
    """Say whether a file is `read` or `refused`, or what else happened."""
    from sa_lightning.errors import DataError

    try:
        texts = read(path)
        blank = name not in ("replies", "rows") and not all(map(str.strip, texts))
        return "a blank text" if blank else "read" if "".join(texts).encode() is not None else ""
    except DataError as error:
        return "refused" if str(error).count("\n") == 2 else f"not three lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        counts = attack(int(sys.argv[1]), Path(place))
    for reader in dict.fromkeys(name for name, _ in counts):
        print(f"{reader:<16} read {counts[reader, 'read']:>6}  refused {counts[reader, 'refused']:>6}  else 0")
