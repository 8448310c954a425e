"""Batches of one request type: what is in them, who runs them, what is kept, and that HFLM's answers are unchanged."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import WORDS, artifact_for, llama, word_tokenizer
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from sa_lightning import steer
from sa_lightning.errors import ModelError, SaError
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.evaluation.harness.journal import Journal
from sa_lightning.steering.runtime.prompt_lengths import prompt_lengths

GREEDY = {"until": [], "do_sample": False, "max_gen_toks": 8}


def texts(count, seed=0, most=12):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, most))) for _ in range(count)]


def instances(kind, arguments):
    return [Instance(kind, {}, args, 0, metadata=("task", number, 1)) for number, args in enumerate(arguments)]


def generation(count=13, **changes):
    return instances("generate_until", [(text, {**GREEDY, **changes}) for text in texts(count)])


def choices(count=7):
    """Questions of different length; the choices of some are one word, those of others several."""
    asked = texts(count, seed=1)
    answers = [[" yes", " no", " cake"], [" yes .", " no , then", " a cake ."]]
    return instances("loglikelihood", [(text, answer) for i, text in enumerate(asked) for answer in answers[i % 2]])


def rolling(count=11):
    return instances("loglikelihood_rolling", [(text,) for text in texts(count, seed=2, most=90)])


REQUESTS = {"generate_until": generation, "loglikelihood": choices, "loglikelihood_rolling": rolling}


def ours(model=None, **settings):
    return InMemoryLM(model or llama(), word_tokenizer(), **settings)


def forwards(model):
    """Rows of every forward that begins a sequence."""
    rows = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, args, out: rows.append(tuple(args[0].shape)) if args[0].shape[1] > 1 else None
    )
    return rows


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_answers_are_those_of_hflm_one_by_one(kind, batch_size):
    plain = HFLM(pretrained=llama(), tokenizer=word_tokenizer(), batch_size=1)
    expected = getattr(plain, kind)(REQUESTS[kind](), disable_tqdm=True)
    found = getattr(ours(batch_size=batch_size), kind)(REQUESTS[kind]())
    if kind == "generate_until":
        assert found == expected
        assert len(set(found)) > 3
    else:
        assert torch.allclose(torch.tensor(found, dtype=float), torch.tensor(expected, dtype=float), rtol=1e-5)
    assert [type(answer) for answer in found] == [type(answer) for answer in expected]


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_no_batch_has_more_rows_than_asked_for_and_the_longest_come_first(batch_size):
    model = llama()
    rows = forwards(model)
    ours(model, batch_size=batch_size).generate_until(generation())
    assert [size for size, _ in rows] == [batch_size] * (13 // batch_size) + [13 % batch_size] * bool(13 % batch_size)
    assert [width for _, width in rows] == sorted((width for _, width in rows), reverse=True)


def test_an_automatic_batch_keeps_to_its_budget_of_tokens(monkeypatch):
    from sa_lightning.evaluation.harness import batches as requests

    monkeypatch.setitem(requests.BUDGETS["cpu"], "generate_until", 64)
    model = llama()
    rows = forwards(model)
    ours(model).generate_until(generation())
    assert all(size * (width + 8) <= 64 for size, width in rows)
    assert max(size for size, _ in rows) > 1
    rows.clear()
    ours(model, max_batch_size=2).generate_until(generation())
    assert max(size for size, _ in rows) == 2


def test_what_is_decoded_differently_runs_apart():
    model = llama()
    rows = forwards(model)
    ours(model, batch_size=5).generate_until(generation(4) + generation(4, max_gen_toks=4))
    assert [size for size, _ in rows] == [4, 4]  # not five and three, of which the five would run as four and one


def test_what_is_asked_twice_runs_once():
    model = llama()
    rows = forwards(model)
    asked = generation(3)
    found = ours(model, batch_size=1).generate_until(asked + asked[::-1])
    assert len(rows) == 3
    assert found == found[::-1]


def test_the_choices_of_a_question_stay_together_and_share_what_they_can():
    model = llama()
    rows = forwards(model)
    ours(model, batch_size=4).loglikelihood(choices())
    # Three one-word choices are one row; three of several words are three. Four such rows fit, five do not.
    assert sum(size for size, _ in rows) == 4 * 1 + 3 * 3
    assert all(size <= 4 for size, _ in rows)
    model = llama()
    rows = forwards(model)
    ours(model, batch_size=2).loglikelihood(choices()[3:6])  # one question alone has more than may run at once
    assert [size for size, _ in rows] == [2, 1]


def test_choices_without_a_question_are_not_taken_for_those_of_one(tmp_path):
    model = llama()
    rows = forwards(model)
    asked = instances("loglikelihood", [("", text) for text in texts(9, seed=3)])
    expected = HFLM(pretrained=llama(), tokenizer=word_tokenizer(), batch_size=1).loglikelihood(asked, True)
    journal = Journal(tmp_path, "a", {})
    found = ours(model, batch_size=2, journal=journal).loglikelihood(asked)
    assert all(size <= 2 for size, _ in rows)
    assert len(journal.read()) == 5  # batches, which may go to different processes
    assert torch.allclose(torch.tensor(found, dtype=float), torch.tensor(expected, dtype=float), rtol=1e-5)


class Killed(BaseException):
    pass


def killed_after(model, count):
    """Stop the process, so to speak, when another batch begins."""
    rows = forwards(model)
    model.get_input_embeddings().register_forward_hook(lambda *_: (_ for _ in ()).throw(Killed) if len(rows) > count
                                                       else None)  # fmt: skip
    return model


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


def crowded(model, most):
    """A device on which only so many tokens fit."""

    def check(module, args, out):
        if args[0].numel() > most and args[0].shape[1] > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate a cake.\nmore")

    model.get_input_embeddings().register_forward_hook(check)
    return model


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_batch_that_does_not_fit_is_halved_and_later_ones_with_it(kind):
    roomy, model = llama(), llama()
    first, rows = forwards(roomy), forwards(model)
    expected = getattr(ours(roomy, batch_size=4), kind)(REQUESTS[kind]())
    most = first[0][0] * first[0][1] // 2
    assert sum(a * b > most for a, b in first) > 1
    found = getattr(ours(crowded(model, most), batch_size=4), kind)(REQUESTS[kind]())
    if kind == "generate_until":
        assert found == expected
    else:
        assert torch.allclose(torch.tensor(found, dtype=float), torch.tensor(expected, dtype=float), rtol=1e-5)
    assert sum(a * b > most for a, b in rows) == 1


def test_a_prompt_that_alone_does_not_fit_is_said():
    with pytest.raises(ModelError) as error:
        ours(crowded(llama(), 1)).generate_until(generation(2))
    assert "does not fit in memory: CUDA out of memory. Tried to allocate a cake." in str(error.value)
    assert "--model.dtype bfloat16" in str(error.value)


def test_another_error_is_not_taken_for_a_lack_of_memory():
    model = llama()
    model.get_input_embeddings().register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("no such cake")))
    with pytest.raises(RuntimeError, match="no such cake"):
        ours(model).generate_until(generation(2))


def test_prompts_that_lose_their_beginning_are_counted_once_a_document():
    lm = ours(max_length=12)
    lm.generate_until(generation())
    longer = sum(len(text.split()) + 8 > 12 for text in texts(13))
    assert lm.truncated == Counter(task=longer)
    assert 0 < longer < 13
    lm = ours(max_length=64)
    lm.generate_until(generation())
    lm.loglikelihood_rolling(rolling())  # which cuts texts into windows, and loses nothing
    assert lm.truncated == Counter()


def test_no_room_for_a_reply_and_no_prompt_in_a_batch_are_refused():
    with pytest.raises(SaError, match="up to 8 new tokens, but the model's context is 8"):
        ours(max_length=8).generate_until(generation(1))
    with pytest.raises(SaError, match="at least 1, but is 0"):
        ours(batch_size=0)


def test_draws_are_as_many_as_asked_for_and_the_same_every_time():
    sampled = {"do_sample": True, "temperature": 1.5, "max_gen_toks": 8, "until": []}
    asked = instances("generate_until", [(text, sampled) for text in texts(4)])
    asked = [request for request in asked for _ in range(3)]
    model = llama()  # which sets the seed
    torch.manual_seed(5)
    found = ours(model, batch_size=2).generate_until(asked)
    assert max(len(set(found[i : i + 3])) for i in range(0, 12, 3)) > 1
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)  # nobody else's draws are disturbed
    assert ours(model, batch_size=2).generate_until(asked) == found
    torch.manual_seed(6)
    assert ours(model, batch_size=2).generate_until(asked) != found


def test_nothing_is_printed_unless_asked_for(capfd):
    ours().loglikelihood_rolling(rolling(2))
    ours().loglikelihood(choices(2))
    assert capfd.readouterr() == ("", "")
    ours(progress="edited").loglikelihood(choices(2))
    assert "edited choices" in capfd.readouterr().err


WORKER = """
import json, os, sys
import torch, torch.distributed as dist
sys.path[:0] = sys.argv[3:]
from conftest import llama
from evaluation.harness.test_in_memory import REQUESTS, Journal, forwards, ours
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


def test_an_answer_is_as_likely_under_a_gate_as_its_prompt_decides():
    """Each choice by itself, its prompt decided alone, is what a batch of all gives."""
    model, tokenizer = llama(), word_tokenizer()
    gate = {"kind": "linear", "others": 0.0, "ids": [], "sets": {"original": {"threshold": 0.0, "bias": 0.0}}}
    vector = torch.randn(32, generator=torch.Generator().manual_seed(3))
    artifact = artifact_for(model, strength=0.5, gate=gate, gates={"original": {1: vector}})
    asked = instances(
        "loglikelihood", [("how do i bake", " a cake"), ("how", " no"), ("break a", " window ."), ("i", " ,")]
    )
    plain = ours(model, batch_size=4).loglikelihood(asked)
    with steer(model, artifact):
        found = ours(model, batch_size=4).loglikelihood(asked)
    moved = 0
    for instance, one, before in zip(asked, found, plain, strict=True):
        context, answer = (tokenizer(text, add_special_tokens=False).input_ids for text in instance.args)
        with steer(model, artifact) as steered:
            steered.generate(torch.tensor([context]), attention_mask=torch.ones(1, len(context)), max_new_tokens=1)
            with prompt_lengths([len(context)]):
                logits = steered(torch.tensor([[*context, *answer]])).logits.log_softmax(-1)[0]
        known = sum(float(logits[len(context) - 1 + i, token]) for i, token in enumerate(answer))
        assert one[0] == pytest.approx(known, abs=1e-4)
        moved += one[0] != before[0]
    assert 0 < moved < len(asked)


def ended_at(model, token):
    """The same model, which ends its replies at this token."""
    model.generation_config.eos_token_id = [token, 2]
    return model


def first_reply(room, **changes):
    """The reply to a prompt, and whether it was cut, at this limit; greedily, eight words without a special token."""
    model = changes.pop("model", None) or llama()
    lm = ours(model, batch_size=1)
    args = (texts(26)[25], {**GREEDY, "max_gen_toks": room, **changes})
    (text,) = lm.generate_until(instances("generate_until", [args]))
    return text, lm.cut["task", 0]


def new_word(words):
    """The place of a word that did not occur before."""
    return next(index for index in range(2, 8) if words[index] not in words[:index])


def test_a_reply_whose_last_token_fits_exactly_is_not_cut_and_one_token_less_cuts_it():
    text, cut = first_reply(8)
    words = text.split()
    assert cut
    assert len(words) == 8
    place = new_word(words)
    last = word_tokenizer().convert_tokens_to_ids(words[place])
    for room, expected in ((place, True), (place + 1, False), (place + 2, False)):
        assert first_reply(room, model=ended_at(llama(), last))[1] is expected, room


def test_a_reply_that_a_stop_string_ends_is_not_cut():
    words = first_reply(8)[0].split()
    place = new_word(words)
    for room, expected in ((place, True), (place + 1, False), (8, False)):
        text, cut = first_reply(room, until=[words[place]])
        assert cut is expected, room
        assert text.split() == words[:place]


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_which_replies_were_cut_does_not_depend_on_the_batch_nor_on_the_order(batch_size):
    model = ended_at(llama(), word_tokenizer().convert_tokens_to_ids("cake"))
    alone = ours(model, batch_size=1)
    asked = generation()
    answers = alone.generate_until(asked)
    assert {True, False} == set(alone.cut.values())
    together = ours(model, batch_size=batch_size)
    assert together.generate_until(asked[::-1]) == answers[::-1]
    assert together.cut == alone.cut


def test_of_draws_of_one_prompt_each_knows_whether_it_was_cut():
    model = ended_at(llama(), word_tokenizer().convert_tokens_to_ids("cake"))
    lm = ours(model, batch_size=8)
    args = (texts(1)[0], {"until": [], "do_sample": True, "temperature": 3.0, "max_gen_toks": 4})
    generate, rows = model.generate, []
    model.generate = lambda **settings: (
        rows.append(generate(**settings)[:, -4:]) or torch.cat([settings["input_ids"], rows[-1]], dim=1)
    )
    drawn = lm.generate_until(instances("generate_until", [args] * 8))
    (ids,) = rows
    cake = word_tokenizer().convert_tokens_to_ids("cake")
    assert drawn == word_tokenizer().batch_decode(ids, skip_special_tokens=True)
    ended = [bool({cake, 2} & set(row)) for row in ids.tolist()]
    assert [lm.cut["task", number] for number in range(8)] == [not end for end in ended]
    assert {True, False} == set(ended)


def test_a_run_that_goes_on_knows_what_was_cut_and_takes_up_journals_without_that(tmp_path):
    model = ended_at(llama(), word_tokenizer().convert_tokens_to_ids("cake"))
    first = ours(model, batch_size=4, journal=Journal(tmp_path, "a", {}))
    answers = first.generate_until(generation())
    second = ours(killed_after(llama(), -1), batch_size=4, journal=Journal(tmp_path, "a", {}))
    assert second.generate_until(generation()) == answers
    assert second.cut == first.cut
    (path,) = tmp_path.iterdir()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{**entry, "answers": [text for text, _ in entry["answers"]]} for entry in entries]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in old[:-1]))
    third = ours(model, batch_size=4, journal=Journal(tmp_path, "a", {}))
    assert third.generate_until(generation()) == answers
    unknown = [key for key, cut in third.cut.items() if cut is None]
    assert len(unknown) == 12
    assert all(third.cut[key] == cut for key, cut in first.cut.items() if key not in unknown)
