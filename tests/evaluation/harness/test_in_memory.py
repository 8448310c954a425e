"""Batches of one request type: what is in them, what they need, and that HFLM's answers are unchanged."""

from collections import Counter

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from support.lm_eval_requests import REQUESTS, choices, forwards, generation, instances, ours, rolling, texts
from support.models import artifact_for, linear_gate, llama, word_tokenizer

from sa_lightning import steer
from sa_lightning.errors import ModelError, SaError
from sa_lightning.evaluation.harness.journal import Journal
from sa_lightning.steering.runtime.prompt_lengths import prompt_lengths


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


def test_an_answer_is_as_likely_under_a_gate_as_its_prompt_decides():
    """Each choice by itself, its prompt decided alone, is what a batch of all gives."""
    model, tokenizer = llama(), word_tokenizer()
    vector = torch.randn(32, generator=torch.Generator().manual_seed(3))
    artifact = artifact_for(model, strength=0.5, gate=linear_gate({1: vector}, negative_factor=0.0))
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
