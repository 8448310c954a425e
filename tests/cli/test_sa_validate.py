"""`sa validate`: killed and continued, on its own or shared by two, and what it leaves on disk."""

import json
import os
import stat
import sys
import time
from pathlib import Path

import pytest
from support.command import Started, sa
from support.lm_eval_tasks import write_bakery

from sa_lightning.cli import main
from sa_lightning.foreign.showing import in_markdown


def command(checkpoints, artifact, tasks, output, *more):
    return [
        *("validate", "--model.target", str(checkpoints / "base"), "--artifact", str(artifact)),
        *("--evaluation.tasks", "[bakery]", "--evaluation.task_dirs", f"[{tasks}]", "--output", str(output)),
        *("--trainer.accelerator", "cpu", *more),
    ]


ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.fixture(scope="module")
def whole(checkpoints, artifact, tmp_path_factory):
    """A run from beginning to end, in this process."""
    tasks, output = write_bakery(tmp_path_factory.mktemp("tasks"), 23), tmp_path_factory.mktemp("run") / "out"
    judges = ("--evaluation.judges", "[phrases.gcg]", "--trainer.devices", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sa"])  # which Lightning looks at
        main(command(checkpoints, artifact, tasks, output, *judges))
    return tasks, output


def test_what_a_tag_names_and_is_not_at_hand_is_left_out_and_said(whole):
    _, output = whole
    results = json.loads((output / "results.json").read_text())
    assert results["missing"] == {
        "bakery_gone": "The data set gone is not at hand. Two ways to get it:\n  1. bake it\n  2. break it"
    }
    for arm in results["arms"].values():
        assert set(arm["by_task"]) | set(arm["utility"]) == {"bakery_replies", "bakery_choices"}
        assert arm["attack_success"]["n"] == 12
        assert arm["utility"]["bakery_choices"]["n"] == 23


def test_replies_are_there_for_sa_judge_and_for_their_owner_only(whole, tmp_path):
    _, output = whole
    path = output / "replies.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["arm"], line["task"], line["id"]) for line in lines] == [
        (arm, "bakery_replies", f"d{i}") for arm in ("original", "steered") for i in range(23)
    ]
    assert {line["kind"] for line in lines} == {"harmful", "borderline"}
    assert lines[1]["category"] == "c1"
    assert all(line["outcome"] == line["outcomes"]["refusal"] for line in lines)
    assert all(set(line["outcomes"]) == {"refusal", "phrases.gcg"} for line in lines)
    assert [line["response"] for line in lines[:23]] != [line["response"] for line in lines[23:]]
    main(["judge", "--input", str(path), "--output", str(tmp_path / "verdicts.jsonl")])
    again = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert [line["outcome"] for line in again] == [line["outcome"] for line in lines]


def test_nothing_is_left_unfinished(whole):
    assert not (whole[1] / "unfinished").exists()


def test_a_judge_that_is_not_there_or_cannot_read_these_replies_is_refused_first(
    whole, checkpoints, artifact, tmp_path, refused
):
    for name, fact in (("phrases.gcq", "Did you mean"), ("tiny_world", "has no `form`")):
        typed = command(checkpoints, artifact, whole[0], tmp_path / "out", "--evaluation.judges", f"[{name}]")
        assert fact in refused(*typed)
        assert not (tmp_path / "out").exists()


def test_an_empty_batch_is_refused_before_a_model_is_loaded(checkpoints, artifact, tmp_path, refused):
    typed = command(checkpoints, artifact, tmp_path, tmp_path / "out", "--evaluation.batch_size", "0")
    assert "at least 1, but is 0" in refused(*typed)


def test_two_processes_write_what_one_writes_to_the_byte(whole, checkpoints, artifact, tmp_path):
    tasks, _ = whole  # 23 documents, in 12 batches of two: they do not divide
    both = []
    for devices in ("1", "2"):
        place = tmp_path / devices
        typed = command(checkpoints, artifact, tasks, place, "--trainer.devices", devices)
        done = sa(*typed, "--evaluation.batch_size", "2", **ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Left out: bakery_gone") == 1
        assert json.loads((place / "validate.json").read_text())["processes"] == int(devices)
        results = json.loads((place / "results.json").read_text())
        both.append(((place / "replies.jsonl").read_bytes(), results["arms"], results["paired"]))
        assert not (place / "unfinished").exists()
    assert both[0] == both[1]


def test_a_killed_run_goes_on_where_it_stopped(checkpoints, artifact, tmp_path):
    tasks = write_bakery(tmp_path, 300)
    typed = [*command(checkpoints, artifact, tasks, tmp_path / "out"), "--evaluation.batch_size", "2"]
    typed += ["--evaluation.tasks", "[bakery_replies]"]
    process = Started(*typed, **ENVIRONMENT)
    journal = None
    while journal is None or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, "it ended before it could be killed"
        journal = next((tmp_path / "out" / "unfinished").glob("replies-original-*.jsonl"), None)
        time.sleep(0.02)
    process.kill()
    assert not (tmp_path / "out" / "results.json").exists()
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    # Leave a mark in what was kept: it shows that it is used.
    first, *rest = journal.read_bytes().split(b"\n")
    entry = json.loads(first)
    entry["answers"] = ["the mark of the first run"] * len(entry["answers"])
    journal.write_bytes(b"\n".join([json.dumps(entry).encode(), *rest[:-1], b'{"batch": "half']))
    done = sa(*typed, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "replies.jsonl").read_text().splitlines()]
    marked = [line for line in lines if line["response"] == "the mark of the first run"]
    assert len(lines) == 600
    assert [line["arm"] for line in marked] == ["original"] * len(entry["answers"])
    assert not (tmp_path / "out" / "unfinished").exists()


ADVBENCH = ("validate", "--model.target", "nowhere", "--evaluation.tasks", "[sa_advbench]", "--output")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--data.arms", "[]"], "`--data.arms` is empty"),
        (["--steering.strength", "0.5"], "has nothing to act on"),
        (["--trainer.precision", "bf16-true"], "would change nothing"),
        (["--evaluation.metadata", '{"kind": "harmful"}'], "sets kind"),
        (["--evaluation.max_new_tokens", "0"], "must be at least 1, but is 0"),
    ],
)
def test_settings_that_would_be_ignored_or_mislead_are_refused_before_a_model_is_read(options, fact, tmp_path, refused):
    assert fact in refused(*ADVBENCH, tmp_path / "out", *options)


def test_an_output_that_cannot_be_written_is_refused_before_a_model_is_read(tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    assert "cannot take results" in refused(*ADVBENCH, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_replies_of_somebody_else_are_not_written_over(tmp_path, refused):
    (tmp_path / "replies.jsonl").write_text("mine")
    refused(*ADVBENCH, tmp_path)
    assert (tmp_path / "replies.jsonl").read_text() == "mine"


def lines_by_arm(output):
    found = {}
    for line in (output / "replies.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["arm"], {})[row["id"]] = row
    return found


def test_how_many_replies_changed_and_were_cut_is_what_replies_say(whole):
    _, output = whole
    results, lines = json.loads((output / "results.json").read_text()), lines_by_arm(output)
    original, steered = results["arms"]["original"], results["arms"]["steered"]
    assert (original["changed"]["n"], original["changed"]["rate"]) == (0, None)
    differs = sum(row["response"] != lines["original"][key]["response"] for key, row in lines["steered"].items())
    assert (steered["changed"]["k"], steered["changed"]["n"]) == (differs, 23)
    assert differs > 0
    for name, arm in results["arms"].items():
        assert arm["cut"]["n"] == 23
        assert arm["cut"]["k"] == sum(row["cut"] for row in lines[name].values()) > 0
        assert all(len(row["response"].split()) <= 12 for row in lines[name].values())
        assert arm["by_task"]["bakery_replies"]["cut"] == arm["cut"]
        assert sum(sum(counts.values()) for counts in arm["cut_outcomes"].values()) == arm["cut"]["k"]


def test_a_strength_of_nothing_changes_nothing_and_says_so(whole, checkpoints, artifact, tmp_path, capsys):
    more = ("--steering.strength", "0", "--evaluation.tasks", "[bakery_replies]", "--evaluation.max_new_tokens", "3")
    main(command(checkpoints, artifact, whole[0], tmp_path / "out", *more))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    changed = results["arms"]["steered"]["changed"]
    assert (changed["k"], changed["n"]) == (0, 23)
    said = [warning for warning in results["warnings"] if "0 of 23 replies changed" in warning]
    assert len(said) == 1
    assert "`--steering.strength` (it is 0" in said[0]
    shown = " ".join(capsys.readouterr().out.split())
    assert "Replies that changed: steered 0 of 23." in shown
    assert said[0] in shown
    assert in_markdown(said[0]) in (tmp_path / "out" / "results.md").read_text()
    assert "0 of 23 replies changed" in (tmp_path / "out" / "report.html").read_text()
    assert results["generation"]["max_new_tokens"] == 3
    lines = lines_by_arm(tmp_path / "out")["original"].values()
    assert max(len(row["response"].split()) for row in lines) == 3
    assert results["arms"]["original"]["cut"]["k"] == sum(row["cut"] for row in lines)
