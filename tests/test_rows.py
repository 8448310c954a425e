"""Rows of people's files, and lines that a kill may cut short."""

import gzip
import json
import stat

import pytest

from sa_lightning.errors import DataError
from sa_lightning.rows import append_line, cut_tail, ended_lines, iter_rows, json_lines, read_rows


def test_rows_come_one_by_one_so_that_what_is_behind_is_not_looked_at(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a":')
    rows = iter_rows(tmp_path / "a.jsonl")
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(DataError, match=r"^Line 3 of .*a\.jsonl is not JSON: Expecting value \(character 6\)"):
        next(rows)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.json.gz", "a.lines"])
def test_text_may_be_gzipped_and_an_unknown_ending_means_json_lines(name, tmp_path):
    texts = {"csv": "a\nα\n", "json": '[{"a": "α"}]', "jsonl": '{"a": "α"}\n', "lines": '{"a": "α"}\n'}
    text = texts[name.split(".")[1]].encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert list(iter_rows(tmp_path / name)) == [(1, {"a": "α"})]


def test_a_value_that_is_no_object_is_a_row_but_not_of_a_table(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n["b"]\n')
    assert [row for _, row in iter_rows(tmp_path / "a.jsonl")] == [{"a": 1}, ["b"]]
    with pytest.raises(DataError, match=r"Line 2 of .*a\.jsonl is no JSON object, but list"):
        read_rows(tmp_path / "a.jsonl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl cannot be opened: No such file"):
        read_rows(tmp_path / "none.jsonl")


def test_appended_lines_are_read_back_without_half_a_line_and_from_where_one_left_off(tmp_path):
    path = tmp_path / "deep" / "lines.jsonl"
    one, other = '{"a": 1}', '{"a": "zwei α"}'
    assert ended_lines(path) == []
    cut_tail(path, "a")
    assert not path.exists()
    append_line(path, one, private=True)
    size = path.stat().st_size
    append_line(path, other)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("ab") as file:
        file.write(b'{"a": half a li')
    assert ended_lines(path) == [one.encode(), other.encode()]
    assert ended_lines(path, size) == [other.encode()]
    cut_tail(path, "a")
    cut_tail(path, "a")
    assert path.read_bytes() == f"{one}\n{other}\n".encode()


def test_json_lines_are_one_object_a_line_with_letters_as_they_are_or_escaped():
    rows = [{"a": "α\n"}, {"a": 1}]
    assert json_lines(rows) == '{"a": "α\\n"}\n{"a": 1}\n'
    assert json_lines(rows, escaped=True).isascii()
    assert [json.loads(line) for line in json_lines(rows, escaped=True).splitlines()] == rows
