"""Whether a reply was cut at its limit is known of each reply."""

import json

import pytest
import torch
from support.lm_eval_requests import (
    GREEDY,
    generation,
    instances,
    killed_after,
    ours,
    texts,
)
from support.models import llama, word_tokenizer

from sa_lightning.evaluation.harness.journal import Journal


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
