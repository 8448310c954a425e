"""Answers that are kept: a killed run goes on, other questions are asked, and processes share the work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.lm_eval_requests import (
    GREEDY,
    REQUESTS,
    Killed,
    forwards,
    generation,
    instances,
    killed_after,
    ours,
    texts,
)
from support.models import llama

from sa_lightning.evaluation.harness.journal import Journal


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_killed_run_goes_on_where_it_stopped_with_the_same_answers(kind, tmp_path):
    whole = getattr(ours(batch_size=2), kind)(REQUESTS[kind]())
    with pytest.raises(Killed):
        getattr(ours(killed_after(llama(), 2), batch_size=2, journal=Journal(tmp_path, "a", {})), kind)(
            REQUESTS[kind]()
        )
    everything, rest = llama(), llama()
    all_rows, rows = forwards(everything), forwards(rest)
    getattr(ours(everything, batch_size=2), kind)(REQUESTS[kind]())
    found = getattr(ours(rest, batch_size=2, journal=Journal(tmp_path, "a", {})), kind)(REQUESTS[kind]())
    assert found == whole
    assert [type(answer) for answer in found] == [type(answer) for answer in whole]
    assert 0 < len(rows) < len(all_rows)
    again = llama()
    rows = forwards(again)
    assert getattr(ours(again, batch_size=2, journal=Journal(tmp_path, "a", {})), kind)(REQUESTS[kind]()) == whole
    assert rows == []


def test_nothing_is_taken_from_another_state_of_the_model_or_another_question(tmp_path):
    ours(batch_size=2, journal=Journal(tmp_path, "a", {"weights": 1})).generate_until(generation(4))
    for journal, asked in (
        (Journal(tmp_path, "a", {"weights": 2}), generation(4)),
        (Journal(tmp_path, "b", {"weights": 1}), generation(4)),
        (Journal(tmp_path, "a", {"weights": 1}), generation(4, max_gen_toks=9)),
        (Journal(tmp_path, "a", {"weights": 1}), instances("generate_until", [(t, GREEDY) for t in texts(4, seed=9)])),
    ):
        model = llama()
        rows = forwards(model)
        ours(model, batch_size=2, journal=journal).generate_until(asked)
        assert len(rows) == 2
    model = llama()
    rows = forwards(model)
    ours(model, batch_size=2, max_length=32, journal=Journal(tmp_path, "a", {"weights": 1})).generate_until(
        generation(4)
    )
    assert len(rows) == 2


def test_half_a_line_is_run_again(tmp_path):
    journal = Journal(tmp_path, "a", {})
    whole = ours(batch_size=2, journal=journal).generate_until(generation(6))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    model = llama()
    rows = forwards(model)
    assert ours(model, batch_size=2, journal=Journal(tmp_path, "a", {})).generate_until(generation(6)) == whole
    assert len(rows) == 1
    assert len(Journal(tmp_path, "a", {}).read()) == 3


WORKER = """
import json, os, sys
import torch, torch.distributed as dist
sys.path[:0] = sys.argv[3:]
from support.lm_eval_requests import REQUESTS, forwards, ours
from support.models import llama
from sa_lightning.evaluation.harness.journal import Journal
rank, place = int(os.environ["RANK"]), sys.argv[1]
dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
answers, rows = {}, {}
for kind, make in REQUESTS.items():
    model = llama()
    seen = forwards(model)
    lm = ours(model, batch_size=3, journal=Journal(sys.argv[2], "a", {}, rank))
    answers[kind], rows[kind] = getattr(lm, kind)(make()), len(seen)
open(f"{place}/{rank}.json", "w").write(json.dumps([answers, rows]))
dist.destroy_process_group()
"""


def test_two_processes_answer_what_one_answers_bit_for_bit_and_share_the_work(tmp_path):
    alone = {}
    for kind, make in REQUESTS.items():
        model = llama()
        seen = forwards(model)
        alone[kind] = (getattr(ours(model, batch_size=3), kind)(make()), len(seen))
    # The second of two runs finds a part of the work done, by a single process.
    ours(batch_size=3, journal=Journal(tmp_path / "half", "a", {})).generate_until(generation())
    root = str(Path(__file__).parents[2])
    for journal in ("new", "half"):
        place = tmp_path / f"run-{journal}"
        place.mkdir()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(place), str(tmp_path / journal), root],
                env={**os.environ, "RANK": str(rank)},
            )
            for rank in (0, 1)
        ]
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
        (first, rows), (second, others) = (json.loads((place / f"{rank}.json").read_text()) for rank in (0, 1))
        assert first == second == json.loads(json.dumps({kind: answers for kind, (answers, _) in alone.items()}))
        for kind, (_, count) in alone.items():
            done = 0 if journal == "half" and kind == "generate_until" else count
            assert rows[kind] + others[kind] == done
            assert abs(rows[kind] - others[kind]) <= (4 if kind == "loglikelihood_rolling" else 1)
