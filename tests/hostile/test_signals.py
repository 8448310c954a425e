"""A run that is told to end ends with a status that is no success, and with a sentence."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import Started
from support.lm_eval_tasks import write_bakery

STUB = """
import sys, time, types
import sa_lightning.cli as cli
cli.first_look = lambda verb, rest: None
def run(rest):
    print("on", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        if {kind!r} == "exits":
            raise SystemExit(0)  # as a library may that takes an interruption for an end
        if {kind!r} == "returns":
            return
        raise
sys.modules["sa_lightning.cli.data"] = types.SimpleNamespace(run=run)
cli.main(["data"])
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("SIGINT", "SIGTERM", "SIGHUP") for kind in ("raises", "exits", "returns")],
)
def test_a_signal_ends_a_verb_with_a_sentence_and_no_success(name, kind):
    process = subprocess.Popen(
        [sys.executable, "-c", STUB.format(kind=kind)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "on\n"
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert ("interrupted" if name == "SIGINT" else f"ended by {name}") in said


def test_a_measurement_that_is_ended_is_no_success_and_leaves_no_results(checkpoints, tmp_path):
    tasks, output = tmp_path / "tasks", tmp_path / "out"
    tasks.mkdir()
    write_bakery(tasks, 600)
    process = Started(
        *("validate", "--model.target", checkpoints / "base", "--trainer.accelerator", "cpu"),
        *("--evaluation.tasks", "[bakery]", "--evaluation.task_dirs", f"[{tasks}]", "--output", output),
        PYTHONPATH=str(Path(__file__).parents[1]),
    )
    while not list((output / "unfinished").glob("replies-original-*.jsonl")):
        assert process.poll() is None, "it ended before it was told to"
        time.sleep(0.02)
    os.kill(process.process, signal.SIGTERM)
    while process.poll() is None:
        time.sleep(0.02)
    assert process.poll() == 1
    assert not (output / "results.json").exists()


def typed(verb, checkpoints, demonstrations, place):
    replies = place / "replies.jsonl"
    replies.write_text(json.dumps({"prompt": "how do i bake", "response": "I cannot help with that."}) + "\n")
    base, cpu = ("--model.target", checkpoints / "base"), ("--trainer.accelerator", "cpu")
    return {
        "fit": (*base, "--data.demonstrations", demonstrations, "--surgery.harm", checkpoints / "harm", *cpu),
        "predict": (*base, "--data.prompts", "[bake, break]", "--prediction.max_new_tokens", "48", *cpu),
        "edit": ("--base", checkpoints / "base", "--harm", checkpoints / "harm"),
        "judge": ("--input", replies),
        "sweep": (*base, "--surgery.harm", checkpoints / "harm", "--sweep.space", "{surgery.scale: [1, 2]}",
                  "--evaluation.tasks", "[bakery]"),
    }[verb]  # fmt: skip


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("verb", ["fit", "predict", "edit", "judge", "sweep"])
def test_any_verb_ends_at_any_moment_with_one_sentence_and_without_half_results(
    verb, name, checkpoints, demonstrations, tmp_path
):
    (tmp_path / "inputs").mkdir()
    rest, draw = typed(verb, checkpoints, demonstrations, tmp_path / "inputs"), random.Random(f"{verb} {name}")
    more = ("--steering.strength", "0.3") if verb == "fit" else ()
    for number in range(2):
        said, output = tmp_path / f"said{number}", tmp_path / f"out{number}"
        process = Started(verb, *rest, *more, "--output", output, said=said)
        time.sleep(draw.uniform(0.02, 0.4))
        if process.poll() is None:
            os.kill(process.process, getattr(signal, name))
        while process.poll() is None:
            time.sleep(0.01)
        text = said.read_text()
        assert "Traceback" not in text
        ended = "interrupted" if name == "SIGINT" else f"ended by {name}"
        assert [text.count(f"sa {verb}: {ended}"), process.poll()] in ([1, 1], [0, 0], [0, 2]), text
        assert not [path for path in tmp_path.rglob(".*.????????.partial") if path.is_file()]


def test_a_run_that_was_not_told_to_end_has_its_own_handlers_again():
    before = signal.getsignal(signal.SIGTERM)
    from sa_lightning.cli import main

    with pytest.raises(SystemExit):
        main(["data", "--help"])
    assert signal.getsignal(signal.SIGTERM) is before
