"""Data sets are found where they lie, read as they are, and their absence is explained."""

import gzip
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.invented_data import MEMBERS, N, nested, write_part, write_rows
from support.real import real

from sa_lightning.data import registry
from sa_lightning.data import table as sources
from sa_lightning.errors import DataError
from sa_lightning.rows import read_rows

ROOT = Path(__file__).parents[2]
PARTS = [(name, which) for name, entry in sources.DATASETS.items() for which in entry.parts]
HUBS = [(name, which) for name, which in PARTS if registry.part(name, which).hub]
every_part = pytest.mark.parametrize(("name", "which"), PARTS, ids=["/".join(part) for part in PARTS])
COPIES = {("do_not_answer", "human"): 3756, ("xstest_completions", "human"): 1350, ("hellaswag", "validation"): 1000}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("offline")))


def message(call, *arguments, **more) -> str:
    with pytest.raises(DataError) as error:
        call(*arguments, **more)
    text = str(error.value)
    assert not re.search(r"[.:][A-Z]", re.sub("[A-Z][a-z]+Error: ", "", text))  # a space lost between two literals
    return text


@every_part
def test_every_layout_of_every_part_is_found_and_read(name, which, data):
    part = registry.part(name, which)
    for layout in part.files:
        written = write_part(data, name, part, layout)
        rows = registry.read_rows(name, which)
        assert len(rows) == N * len(written)
        assert all(set(part.columns) <= set(row) for row in rows)
        assert registry.files(name, which) == sorted(written)
        assert registry.where(name, which) == "local"
        if part.has_members:
            assert {row["file"] for row in rows} == {path.stem for path in written}
        for path in written:
            path.unlink()
    assert registry.where(name, which) == "missing"


@every_part
def test_a_missing_part_names_both_ways_to_get_it(name, which, data, no_hub):
    hub = registry.part(name, which).hub
    said = message(registry.read_rows, name, which)
    for fact in ("Two ways", f"$SA_DATA_DIR/{name}/", str(data), sources.DATASETS[name].source):
        assert fact in said
    assert (hub.id if hub else "  2. ") in said
    assert ("offline" in said) == bool(hub)
    assert ("hf auth login" in said) == bool(hub and hub.gated)
    assert "{" not in said


def test_without_a_directory_the_message_says_that_none_is_set(monkeypatch, no_hub):
    monkeypatch.delenv("SA_DATA_DIR", raising=False)
    assert "SA_DATA_DIR is not set" in message(registry.read_rows, "advbench")
    assert registry.files("advbench") == []


def test_a_directory_that_does_not_exist_is_said_to_be_so_and_a_home_is_expanded(tmp_path, monkeypatch, no_hub):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path / "dta"))
    assert f"SA_DATA_DIR is {tmp_path / 'dta'}, which does not exist" in message(registry.read_rows, "advbench")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SA_DATA_DIR", "~/data")
    write_part(tmp_path / "data", "oktest", registry.part("oktest"))
    assert registry.where("oktest") == "local"


def test_an_unknown_name_or_part_is_refused_with_what_there_is(data):
    assert "Did you mean harmfulqa" in message(registry.read_rows, "harmfulq")
    assert "harmbench has no part 'tset', only test, val, all" in message(registry.read_rows, "harmbench", "tset")


def test_local_files_come_before_the_hub(data, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: pytest.fail("asked the Hub"))
    write_part(data, "oktest", registry.part("oktest"))
    assert registry.read_rows("oktest")[2] == {"prompt": "prompt 2"}


@pytest.mark.parametrize(("name", "which"), HUBS, ids=["/".join(part) for part in HUBS])
def test_the_hub_is_asked_for_what_the_table_says_and_runs_no_code(name, which, data, monkeypatch):
    part, asked = registry.part(name, which), []
    back = {ours: theirs for theirs, ours in part.hub.renamed.items()}
    row = {back.get(column, column): 1 for column in part.columns}
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: asked.append((a, k)) or [row, row])
    rows = registry.read_rows(name, which)
    assert rows == [dict.fromkeys(part.columns, 1)] * 2
    (positional, named) = asked[0]
    assert positional == (part.hub.id, part.hub.config)
    assert named == {"split": part.hub.split, "revision": part.hub.revision} | (
        {"data_dir": part.hub.data_dir} if part.hub.data_dir else {}
    )


def test_a_hub_that_cannot_be_reached_is_asked_once_and_one_that_refuses_each_time(data, monkeypatch):
    for error, times in ((ConnectionError("no route"), 1), (ValueError("gated"), 2)):
        asked = []
        monkeypatch.setattr("datasets.load_dataset", lambda *a, e=error, n=asked, **k: n.append(a) or _raise(e))
        for subject in ("anatomy", "virology"):
            assert str(error) in message(registry.read_rows, "mmlu", "test", member=subject)
        assert len(asked) == times


def _raise(error):
    raise error


def test_one_member_of_a_part_is_one_file_or_one_configuration(data, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "datasets.load_dataset", lambda *a, **k: asked.append(a[1]) or [{"question": "cake", "answer": 0}]
    )
    registry.read_rows("mmlu", "test", member="anatomy")
    assert asked == ["anatomy"]
    write_part(data, "mmlu", registry.part("mmlu", "test"))
    rows = registry.read_rows("mmlu", "test", member="anatomy")
    assert {row["file"] for row in rows} == {"anatomy_test"}
    assert len(rows) == N
    assert len(registry.read_rows("mmlu", "test")) == N * len(MEMBERS["mmlu"]) == N * 57


@pytest.mark.parametrize(("name", "which"), HUBS, ids=["/".join(part) for part in HUBS])
def test_a_split_in_the_cache_of_datasets_is_seen_and_no_other(name, which, data):
    from datasets.naming import camelcase_to_snakecase, filename_prefix_for_split

    hub = registry.part(name, which).hub
    owner, repo = hub.id.split("/")
    config = (hub.config or "default") + (f"-data_dir={hub.data_dir}" if hub.data_dir else "")
    directory = data / "cache" / f"{owner}___{camelcase_to_snakecase(repo)}" / config / "0.0.0" / "abc"
    directory.mkdir(parents=True)
    (directory / f"{filename_prefix_for_split(repo, 'other')}.arrow").touch()
    assert registry.where(name, which) == "missing"
    (directory / f"{filename_prefix_for_split(repo, hub.split)}.arrow").touch()
    assert registry.where(name, which) == "hub cache"


def test_of_several_parts_the_least_at_hand_counts(data):
    write_part(data, "gsm8k", registry.part("gsm8k", "test"))
    assert registry.where("gsm8k") == "local"
    assert registry.where("gsm8k", "test", "train") == "missing"


def test_an_empty_file_and_one_of_another_version_are_refused_by_name(data):
    path = data / "advbench" / "harmful_behaviors.csv"
    path.parent.mkdir()
    path.write_text("goal,target\n")
    assert f"{path} has no rows" in message(registry.read_rows, "advbench")
    path.write_text("text\ncake\nwindow\n")
    said = message(registry.read_rows, "advbench")
    assert f"{path} lacks the columns ['goal'] in some rows; it has ['text']" in said
    path.write_text("target,goal\nSure,cake\nSure\n")  # cut off in the middle of a row
    assert "lacks the columns ['goal']" in message(registry.read_rows, "advbench")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.json", b"{"),
        ("a.jsonl", b'{"a": 1}\n{"a":'),
        ("a.jsonl", b"[1]\n"),
        ("a.jsonl.gz", b"not gzip"),
        ("a.csv", b"\xff\xfe\x00"),
        ("a.csv", b'goal,target\n"bake a cake'),  # cut off within quotes
        ("a.xlsx", b"PK"),
        ("a.parquet", b"PAR1"),
        ("a.zip", b""),
    ],
)
def test_a_damaged_file_is_refused_by_name(file, content, tmp_path):
    (tmp_path / file).write_bytes(content)
    assert str(tmp_path / file) in message(read_rows, tmp_path / file)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\x85"), min_size=1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"a": TEXT, "b": TEXT}), min_size=1),
    st.sampled_from(["csv", "jsonl", "json", "parquet"]),
)
def test_what_is_written_is_what_is_read(tmp_path_factory, rows, ending):
    path = tmp_path_factory.mktemp("rows") / f"rows.{ending}"
    write_rows(path, rows)
    assert read_rows(path) == rows


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXT, min_size=1), st.sampled_from(["txt", "json", "csv"]))
def test_strings_alone_get_the_name_they_are_given(tmp_path_factory, strings, ending):
    path = tmp_path_factory.mktemp("rows") / f"rows.{ending}"
    rows = [{"prompt": text} for text in strings]
    write_rows(path, rows, ["prompt"])
    assert read_rows(path, ["prompt"]) == rows


def test_lists_in_nested_objects_keep_the_keys_on_the_way(tmp_path):
    rows = [
        {"topic": "home", "subtopic": "kitchen", "question": "cake?"},
        {"topic": "home", "subtopic": "kitchen", "question": "pie?"},
        {"topic": "town", "subtopic": "house", "question": "window?"},
    ]
    names = ["topic", "subtopic", "question"]
    assert nested(rows, names) == {"home": {"kitchen": ["cake?", "pie?"]}, "town": {"house": ["window?"]}}
    write_rows(tmp_path / "a.json", rows, names)
    assert read_rows(tmp_path / "a.json", names) == rows


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfgoal\r\ncake\r\n")
    assert read_rows(tmp_path / "a.csv") == [{"goal": "cake"}]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n\n{"a": 2}\n'))
    assert read_rows(tmp_path / "a.jsonl.gz") == [{"a": 1}, {"a": 2}]


def test_a_sheet_may_have_notes_beside_its_columns_and_below_its_rows(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["Question", "Answer", None], ["Cake?", "Yes.", "a note"], [None, None, "a note"], ["Pie?", "No."]):
        book.worksheets[0].append(row)
    book.create_sheet("another").append(["Question"])
    book.save(tmp_path / "a.xlsx")
    assert read_rows(tmp_path / "a.xlsx") == [
        {"Question": "Cake?", "Answer": "Yes."},
        {"Question": "Pie?", "Answer": "No."},
    ]


def test_a_copy_matches_differs_or_is_unknown(data, monkeypatch):
    assert registry.check("oktest") == ("missing", None)
    (path,) = write_part(data, "oktest", registry.part("oktest"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert registry.check("oktest") == ("differs", digest)
    assert registry.check("hex_phi")[0] == "missing"
    write_part(data, "hex_phi", registry.part("hex_phi"))
    assert registry.check("hex_phi")[0] == "unknown"
    known = sources.Part(("oktest/OKTest.csv",), N, ("prompt",), sha256=("0" * 64, digest))
    entry = sources.Entry("borderline", "x", False, "x", "x", {"prompts": known})
    monkeypatch.setitem(sources.DATASETS, "oktest", entry)
    assert registry.check("oktest") == ("matches", digest)


def test_what_cannot_be_opened_is_said_to_be_so(data, monkeypatch):
    path = data / "oktest" / "OKTest.csv"
    path.mkdir(parents=True)
    assert registry.check("oktest") == ("unreadable", None)
    assert message(registry.read_rows, "oktest").startswith(f"{path} cannot be opened: Is a directory.")
    path.rmdir()
    write_part(data, "oktest", registry.part("oktest"))
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "open", lambda *a, **k: _raise(refused))
    assert registry.check("oktest") == ("unreadable", None)
    assert "cannot be opened: Permission denied." in message(registry.read_rows, "oktest")


def test_several_files_have_the_hash_of_their_sha256sum_listing(data):
    part = registry.part("do_not_answer")
    paths = write_part(data, "do_not_answer", part)
    listing = subprocess.run(
        ["sha256sum", *sorted(path.name for path in paths)],
        cwd=paths[0].parent, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert registry.check("do_not_answer")[1] == hashlib.sha256(listing).hexdigest()
    paths[0].write_text("changed")
    assert registry.check("do_not_answer")[1] != hashlib.sha256(listing).hexdigest()


def test_the_table_is_in_order():
    for name, entry in sources.DATASETS.items():
        assert entry.paper.startswith("https://arxiv.org/abs/")
        assert entry.source.startswith("https://")
        assert entry.parts
        for part in entry.parts.values():
            assert part.files[0].startswith(f"{name}/")
            assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in part.sha256)
            assert part.n > 0
            assert part.columns
            if part.hub:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+", part.hub.id)
                assert re.fullmatch("main|[0-9a-f]{40}", part.hub.revision)
    digests = [digest for entry in sources.DATASETS.values() for part in entry.parts.values() for digest in part.sha256]
    assert len(digests) == len(set(digests))


def test_the_registry_costs_no_import():
    heavy = "{'torch', 'lightning', 'datasets', 'pyarrow', 'openpyxl', 'pandas', 'transformers'}"
    subprocess.run(
        [sys.executable, "-c", f"import sys, sa_lightning.data.registry; assert not {heavy} & set(sys.modules)"],
        check=True,
    )


def tracked() -> dict[str, str]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout")
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in paths if path.is_file()}


def test_no_known_data_file_is_committed():
    known = {digest for entry in sources.DATASETS.values() for part in entry.parts.values() for digest in part.sha256}
    assert not known & set(tracked())


@pytest.mark.real
def test_no_data_file_at_hand_is_committed():
    root = real("SA_DATA_DIR")
    theirs = {hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}
    theirs.discard(hashlib.sha256(b"").hexdigest())
    assert not theirs & set(tracked())


@pytest.mark.real
@every_part
def test_a_data_set_at_hand_has_the_rows_that_its_authors_published(name, which):
    part = registry.part(name, which)
    real("SA_DATA_DIR")
    if not registry.files(name, which):
        pytest.skip(f"{name}/{which} is not at hand in {os.environ['SA_DATA_DIR']}")
    assert len(registry.read_rows(name, which)) in (part.n, COPIES.get((name, which)))
    assert registry.check(name, which)[0] == ("matches" if part.sha256 else "unknown")
