"""A sample of the attack (`make hostile` runs all of it): nothing happens to anybody but what was said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PARTS = ("table", "artifacts", "checkpoints", "rows", "kills", "signals", "disks", "together")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What became of every case of the sample, by part."""
    place = tmp_path_factory.mktemp("attack")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hostile.attack", "--sample", "--place", str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return {part: list(map(json.loads, (place / f"{part}-0.jsonl").read_text().splitlines())) for part in PARTS}


@pytest.mark.parametrize("part", ["artifacts", "checkpoints", "rows"])
def test_mutated_files_are_right_or_refused(results, part):
    assert len(results[part]) >= 100
    assert {result["kind"] for result in results[part]} == {"right", "refused"}


def test_wrong_inputs_are_refused_in_words_and_good_ones_are_not(results):
    assert len({result["verb"] for result in results["table"]}) == 11
    assert [result for result in results["table"] if not result["good"]] == []


@pytest.mark.parametrize("part", ["kills", "signals", "disks", "together"])
def test_what_is_disturbed_leaves_nothing_half_and_can_be_run_again(results, part):
    assert [result for result in results[part] if not result["good"]] == []
