"""Replies on disk: whole, for their owner only, and gone when they are not needed."""

import json
import stat
import warnings

import pytest

from sa_lightning.evaluation import Outcome, Sample, Verdict
from sa_lightning.evaluation.harness.journal import Journal, remove_journals, write_replies


def test_what_is_added_is_read_back_by_whichever_process(tmp_path):
    for rank in (0, 1):
        Journal(tmp_path, "edited+steered", {"weights": "w"}, rank).add(f"batch{rank}", [[-0.1, True], ["é\\n", 1.5]])
    for rank in (0, 1, 5):
        read = Journal(tmp_path, "edited+steered", {"weights": "w"}, rank).read()
        assert read == {f"batch{i}": [[-0.1, True], ["é\\n", 1.5]] for i in (0, 1)}


@pytest.mark.parametrize("value", [0.1 + 0.2, -1e-310, float("-inf"), -(2.0**0.5)])
def test_numbers_come_back_bit_for_bit(tmp_path, value):
    Journal(tmp_path, "a", {}).add("b", [value])
    assert Journal(tmp_path, "a", {}).read()["b"] == [value]


def test_another_state_or_arm_reads_nothing(tmp_path):
    Journal(tmp_path, "a", {"strength": 0.1}).add("b", ["yes"])
    assert Journal(tmp_path, "a", {"strength": 0.2}).read() == {}
    assert Journal(tmp_path, "b", {"strength": 0.1}).read() == {}
    assert Journal(tmp_path / "nowhere", "a", {}).read() == {}


@pytest.mark.parametrize("left", [b"", b'{"batch": "c", "answ', b'{"batch": "c", "answers": ["yes"]}', b"\xff\xfe"])
def test_half_a_line_is_dropped_and_what_follows_is_whole(tmp_path, left):
    Journal(tmp_path, "a", {}).add("b", ["yes"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + left)
    assert Journal(tmp_path, "a", {}).read() == {"b": ["yes"]}
    journal = Journal(tmp_path, "a", {})
    journal.add("d", ["no"])
    journal.add("e", ["no"])
    assert Journal(tmp_path, "a", {}).read() == {"b": ["yes"], "d": ["no"], "e": ["no"]}
    assert [json.loads(line)["batch"] for line in path.read_text().splitlines()] == ["b", "d", "e"]


def test_only_the_owner_can_read_replies(tmp_path):
    Journal(tmp_path / "unfinished", "a", {}).add("b", ["yes"])
    write_replies({}, tmp_path / "replies.jsonl")
    for path in (*(tmp_path / "unfinished").iterdir(), tmp_path / "replies.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path):
    Journal(tmp_path / "unfinished", "a", {}).read()
    assert not (tmp_path / "unfinished").exists()


def test_a_full_disk_is_said_once_and_does_not_stop_the_run(tmp_path):
    (tmp_path / "unfinished").write_text("a file where the directory should be")
    journal = Journal(tmp_path / "unfinished", "a", {})
    with pytest.warns(UserWarning, match="could not be kept"):
        journal.add("b", ["yes"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        journal.add("c", ["yes"])


def test_finished_work_is_removed_and_that_of_others_stays(tmp_path):
    for place in ("mine", "shared"):
        Journal(tmp_path / place, "a", {"weights": 1}).add("b", ["yes"])
        Journal(tmp_path / place, "b", {"weights": 2}, 1).add("b", ["yes"])
    (tmp_path / "shared" / "states.safetensors").write_text("of a fit")
    remove_journals(tmp_path / "mine")
    remove_journals(tmp_path / "shared")
    remove_journals(tmp_path / "nowhere")
    assert not (tmp_path / "mine").exists()
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["states.safetensors"]


def test_every_judged_reply_is_a_line_for_sa_judge(tmp_path):
    judged = Sample(
        *("sa_cakes", "harmful", "7", "how do i break a cake?", "first\nthen — so"), outcome=Outcome.COMPLIED,
        category="cakes", cut=True,
        verdicts={"refusal": Verdict(Outcome.COMPLIED), "other": Verdict(Outcome.UNJUDGED, said="It is not [B].")},
    )  # fmt: skip
    answered = Sample("sums", "utility", "0", "1 + 1", "2", correct=True)
    write_replies({"original": [answered, judged], "steered": [judged]}, tmp_path / "new" / "replies.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "new" / "replies.jsonl").read_text().splitlines()]
    assert [line.pop("arm") for line in lines] == ["original", "steered"]
    assert lines[0] == lines[1] == {
        "task": "sa_cakes", "kind": "harmful", "id": "7", "category": "cakes", "prompt": "how do i break a cake?",
        "response": "first\nthen — so", "outcome": "complied",
        "outcomes": {"refusal": "complied", "other": "unjudged"}, "cut": True,
        "judges_said": {"other": "It is not [B]."},
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["replies.jsonl"]
