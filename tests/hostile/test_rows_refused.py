"""Files of rows that are broken: refused with the file, the line or row and what to change, by every verb's reader."""

import gzip
import json
import os

import pytest

from sa_lightning.datamodules import PromptDataModule
from sa_lightning.datamodules.prompts import read_prompts
from sa_lightning.errors import DataError
from sa_lightning.evaluation.judges.replies import read_replies
from sa_lightning.fitting.prompts import harmless_prompts
from sa_lightning.fitting.prompts import read_prompts as gate_prompts
from sa_lightning.rows import PROMPT, formats, iter_rows
from sa_lightning.steering import read_demonstrations

GOOD = b'{"prompt": "how", "kind": "harmful", "response": "so", "question": "how", "safe": "no", "unsafe": "so"}'
TABLE = b"prompt,kind,response,question,safe,unsafe\nhow,harmful,so,how,no,so\n"
READERS = [read_demonstrations, read_prompts, gate_prompts, lambda path: harmless_prompts(path, []), read_replies]


def refused(read, path) -> str:
    with pytest.raises(DataError) as error:
        read(path)
    said = str(error.value)
    assert said.count("\n") == 2
    assert str(path) in said or path.name in said
    return said


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("ending", "content", "fact"),
    [
        ("jsonl", GOOD + b'\n\n{"prompt": ', "Line 3 of FILE is not JSON: Expecting value (character 11)"),
        ("jsonl", GOOD + b"\n" + b'{"a":' * 5000, "Line 2 of FILE is nested too deep"),
        ("jsonl", GOOD + b"\n" + b"[" * 150 + b"]" * 150, "Line 2 of FILE is nested too deep"),
        ("jsonl", GOOD + b"\n" + b"9" * 6000, "Line 2 of FILE has an integer of thousands of digits"),
        ("jsonl", GOOD + b'\n{"x": NaN}', "Line 2 of FILE has NaN, which is no JSON"),
        ("jsonl", GOOD + b'\n{"x": -Infinity}', "Line 2 of FILE has -Infinity, which is no JSON"),
        ("jsonl", GOOD + b'\n{"x": 1e999}', "Line 2 of FILE has the number 1e999, which is too large"),
        ("jsonl", GOOD + b"\n" + "ü".encode("latin-1"), "Line 2 of FILE is not UTF-8 (byte 1)"),
        ("jsonl", b"[\n" + GOOD + b"\n]\n", "let its name end in .json"),
        ("json", b"[\n" + GOOD + b",\n}", "FILE is not JSON: Expecting value (line 3, column 1)"),
        ("json", b"", "FILE is not JSON"),
        ("json", GOOD + b"\n" + b"{", "Line 2 of FILE is not JSON"),
        ("jsonl.gz", GOOD, "FILE cannot be read as gzip"),
        ("jsonl.gz", gzip.compress(GOOD * 50)[:-9], "FILE cannot be read as gzip"),
        ("csv", TABLE + b'"a"b', "Line 3 of FILE is not CSV"),
        ("csv", TABLE + b'"open', "Line 3 of FILE is not CSV"),
        ("csv", TABLE + b"well, this, is, it, and, more, too\n", "Row 2 (line 3) of FILE has 7 cells, where"),
        ("csv", b"prompt,kind,prompt\nhow,harmful,a\n", "FILE has the column 'prompt' twice"),
        ("csv", b"\xff\xfep\x00", "Line 1 of FILE is not UTF-8 (byte 1)"),
        ("tsv", b"prompt\tkind\na\tb\tc\n", "Row 1 (line 2) of FILE has 3 cells"),
        ("txt", b"\xff\n", "Line 1 of FILE is not UTF-8"),
        ("xlsx", b"PK\x03\x04", "FILE cannot be read as xlsx"),
        ("parquet", b"PAR1", "FILE cannot be read as parquet"),
        ("lines", b"\x00\x01\xff", "Line 1 of FILE is not UTF-8"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_line(read, ending, content, fact, tmp_path):
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(content)
    assert fact.replace("FILE", str(path)) in refused(read, path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("row", [42, None, True, "", [], [1], {}, {"kind": ["harmful"]}, {"prompt": {"role": "user"}},
                                 {"prompt": [1], "kind": "harmful"}, {"prompt": " ", "kind": "harmless"}])  # fmt: skip
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_row_of_another_shape_is_refused_by_name(read, row, ending, tmp_path):
    if read is read_replies and row in ({"prompt": " "},):
        return
    path = tmp_path / f"rows.{ending}"
    path.write_text(json.dumps([row]) if ending == "json" else json.dumps(row) + "\n")
    refused(read, path)


@pytest.mark.parametrize("read", READERS[:4])
def test_half_a_surrogate_pair_goes_into_no_model(read, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.replace(b"how", b"how \\ud83d").replace(b"harmful", b"harmless"))
    if read is not read_demonstrations:
        assert "half of a surrogate pair (character 5" in refused(read, path)
    path.write_bytes(b'{"harmless": "a", "harmful": "\\udc00"}\n')
    refused(read, path)
    with pytest.raises(DataError, match="surrogate"):
        PromptDataModule(prompts=["how \udcff"])


def test_what_packs_more_than_a_limit_is_refused_whatever_the_format(tmp_path, monkeypatch):
    import openpyxl
    import pyarrow
    from pyarrow import parquet

    rows = [{"prompt": "a" * 1000}] * 200
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    book = openpyxl.Workbook()
    for _ in range(200):
        book.worksheets[0].append(["a" * 1000])
    book.save(tmp_path / "a.xlsx")
    text = "\n".join(map(json.dumps, rows))
    for name in ("a.jsonl.gz", "a.csv.gz", "a.txt.gz", "a.json.gz"):
        (tmp_path / name).write_bytes(gzip.compress((text if "csv" not in name else "p\n" + "b" * 200_000).encode()))
    monkeypatch.setattr(formats, "MOST", 1 << 12)
    for path in sorted(tmp_path.iterdir()):
        assert "holds more than" in refused(lambda path: list(iter_rows(path)), path), path
    monkeypatch.setattr(formats, "LONGEST", 10)
    (tmp_path / "b.txt").write_text("x" * 11)
    assert "Line 1" in refused(lambda path: list(iter_rows(path)), tmp_path / "b.txt")


def test_a_sheet_that_claims_to_be_large_is_read_as_it_is(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.worksheets[0]["A1"], book.worksheets[0]["A2"] = "prompt", "how"
    book.worksheets[0]["XFD90000"] = "far"
    book.save(tmp_path / "a.xlsx")
    assert list(iter_rows(tmp_path / "a.xlsx")) == [(1, {"prompt": "how"})]


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", tmp_path, tmp_path / ("a" * 300), tmp_path / "gone.csv"):
        for read in READERS:
            refused(read, path)
        refused(lambda path: list(iter_rows(path)), path)
    with pytest.raises(DataError, match="cannot be opened: embedded null byte"):
        list(iter_rows("a\0b"))


def test_the_keys_of_others_are_shown_in_part_and_on_one_line():
    with pytest.raises(DataError) as error:
        PROMPT.checked({"a\nb" * 1000: 1}, "Row 1 of FILE")
    assert str(error.value).count("\n") == 2
    assert len(str(error.value)) < 600
