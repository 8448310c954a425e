"""The same rows from every format; any text is written and read again; replies are for their owner alone."""

import csv
import gzip
import io
import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_mutants import attack, mutants

from sa_lightning.datamodules.prompts import read_prompts
from sa_lightning.rows import append_row, ended_lines, iter_rows, json_line, read_rows, write_rows
from sa_lightning.steering import read_demonstrations

ANY = st.text(st.characters(exclude_categories=[]), max_size=12)  # lone surrogates too
WRITTEN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(ANY, VALUES, max_size=3), max_size=4))
def test_any_rows_that_are_written_or_appended_are_read_again(tmp_path_factory, rows):
    place = tmp_path_factory.mktemp("rows")
    write_rows(place / "written.jsonl", rows)
    assert read_rows(place / "written.jsonl") == rows
    for row in rows:
        append_row(place / "appended.jsonl", row)
    assert [json.loads(line) for line in ended_lines(place / "appended.jsonl")] == rows
    (place / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    assert read_rows(place / "rows.json") == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WRITTEN, WRITTEN), min_size=1, max_size=3), st.sampled_from([",", "\t"]), st.booleans())
def test_any_text_in_cells_is_read_as_it_is(tmp_path_factory, cells, delimiter, packed):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows([("a", "b"), *cells])
    content = stream.getvalue().encode()
    ending = {",": "csv", "\t": "tsv"}[delimiter] + ".gz" * packed
    path = tmp_path_factory.mktemp("rows") / f"rows.{ending}"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read_rows(path) == [{"a": one, "b": other} for one, other in cells]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_prompts_are_the_same_from_every_format(tmp_path, mark, end):
    import openpyxl
    import pyarrow
    from pyarrow import parquet

    texts = ["how\ndo i", "a\u2028b\u2029c\x85d", 'say "so", then', "ü 😀", "x" * 140_000]
    rows = [{"goal": text} for text in texts]
    lines = end.join(json.dumps(row, ensure_ascii=False) for row in rows)
    stream = io.StringIO()
    csv.writer(stream, lineterminator=end).writerows([("goal",), *((text,) for text in texts)])
    files = {
        "a.jsonl": lines, "b.json": json.dumps(rows), "c.json": json.dumps(texts), "d.json": lines, "e.JSONL": lines,
        "f.csv": stream.getvalue(),
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_bytes(mark + text.encode())
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(mark + text.encode()))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "g.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert read_prompts(path) == texts, path.name
    book = openpyxl.Workbook()
    for text in ("goal", *texts[:4]):
        book.worksheets[0].append([text])
    book.save(tmp_path / "h.xlsx")
    assert read_prompts(tmp_path / "h.xlsx") == texts[:4]
    for name in ("i.txt", "i", "i.prompts"):
        (tmp_path / name).write_bytes(mark + f"  how do i{end}{end}a\u2028b\x85c".encode())
        assert read_prompts(tmp_path / name) == ["how do i", "a\u2028b\x85c"]


def test_a_byte_order_mark_is_no_part_of_demonstrations(tmp_path):
    row = {"question": "how", "safe": "no", "unsafe": "so"}
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row).encode() + b"\r\n")
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(row).encode())  # one row, without a list around it
    for name in ("a.jsonl", "b.json"):
        ((pair,), _) = read_demonstrations(tmp_path / name)
        assert pair.conversation[0]["content"] == "how"


def test_cells_that_are_no_json_are_read_as_what_json_has(tmp_path):
    import datetime
    import decimal

    import pyarrow
    from pyarrow import parquet

    columns = {
        "a": [float("nan"), 0.5], "b": [b"bytes", None], "c": [datetime.date(2024, 1, 2), None],
        "d": [decimal.Decimal("1.50"), None], "e": [[{"x": float("inf")}], []],
    }  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    first, second = read_rows(tmp_path / "a.parquet")
    assert first == {"a": None, "b": "bytes", "c": "2024-01-02", "d": "1.50", "e": [{"x": None}]}
    assert second == {"a": 0.5, "b": None, "c": None, "d": None, "e": []}
    json_line([first, second])


@pytest.mark.parametrize(
    ("row", "mode"),
    [
        ({"prompt": "a", "response": "b"}, 0o600),
        ({"prompt": "a", "replies": {"original": "b"}}, 0o600),
        ({"key": "k", "answer": "b"}, 0o600),
        ({"batch": "k", "answers": ["b"]}, 0o600),
        ({"key": "k", "counts": {}}, 0o644),
    ],
)
def test_who_may_read_rows_follows_from_what_they_hold(tmp_path, row, mode):
    write_rows(tmp_path / "written.jsonl", [{"a": 1}, row])
    append_row(tmp_path / "appended.jsonl", row)
    (tmp_path / "old.jsonl").write_text("{}\n")
    append_row(tmp_path / "old.jsonl", row)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_rows_are_numbered_as_they_stand_in_the_file(tmp_path):
    (tmp_path / "a.jsonl").write_text('\n{"a": 1}\n\n[2]\n')
    (tmp_path / "a.csv").write_text('a\n"one\ntwo"\n\nthree\n')
    (tmp_path / "a.txt").write_text("one\n\nthree\n")
    assert list(iter_rows(tmp_path / "a.jsonl")) == [(2, {"a": 1}), (4, [2])]
    assert list(iter_rows(tmp_path / "a.csv")) == [(1, {"a": "one\ntwo"}), (2, {"a": "three"})]
    assert list(iter_rows(tmp_path / "a.txt")) == [(1, "one"), (3, "three")]


def test_mutated_files_are_read_with_sane_values_or_refused(tmp_path):
    found = attack(60, tmp_path)
    assert sum(found.values()) == 60 * 8
    assert all(outcome in ("read", "refused") for _, outcome in found)
    assert min(found["prompts", outcome] for outcome in ("read", "refused")) > 5
    one, other = mutants(3), mutants(3)
    assert [next(one) for _ in range(40)] == [next(other) for _ in range(40)]
