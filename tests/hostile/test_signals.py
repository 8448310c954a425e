"""A run that is told to end ends with a status that is no success, and with a sentence."""

import os
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
    ("name", "kind"),  # what an interruption by hand means is up to the verb
    [
        ("SIGINT", "raises"),
        *((name, kind) for name in ("SIGTERM", "SIGHUP") for kind in ("raises", "exits", "returns")),
    ],
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


def test_a_run_that_was_not_told_to_end_has_its_own_handlers_again():
    before = signal.getsignal(signal.SIGTERM)
    from sa_lightning.cli import main

    with pytest.raises(SystemExit):
        main(["data", "--help"])
    assert signal.getsignal(signal.SIGTERM) is before
