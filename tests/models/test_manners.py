"""Conversations after the manner of real families: one BOS token, a fixed date, system turns, marks of thoughts."""

import datetime

import pytest
from support.manners import VOCABULARY, ids_of, manner, talker
from support.models import saved

from sa_lightning.errors import DataError, ModelError, SettingError
from sa_lightning.fitting import Demonstrations
from sa_lightning.models import decode, load_tokenizer, passage, render, template_arguments, template_tail, tokenize

ASK = [{"role": "user", "content": "how do i bake"}]
ANSWERED = [*ASK, {"role": "assistant", "content": "first bake ."}]
TURNS = [*ANSWERED, {"role": "user", "content": "then ,"}]
TOLD = [{"role": "system", "content": "be brief"}, *ASK]


@pytest.fixture
def load(tmp_path):
    def loaded(name, begins=False, **settings):
        manner(name, begins).save_pretrained(tmp_path / name)
        return load_tokenizer(str(tmp_path / name), **settings)

    return loaded


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("name", ["bos", "bare", "llama3", "chatml", "harmony"])
@pytest.mark.parametrize("messages", [ASK, ANSWERED, TURNS])
def test_a_conversation_has_one_bos_if_tokenizer_or_template_write_one(load, name, begins, messages):
    ids, _ = tokenize(load(name, begins), messages)
    assert ids.count(1) == int(begins or name in ("bos", "llama3"))
    assert (ids[0] == 1) == (1 in ids)


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("template", ["plain", "question_answer", "vicuna"])
def test_templates_of_ours_have_one_bos_where_texts_of_the_tokenizer_begin_with_one(load, template, begins):
    ids, _ = tokenize(load("bare", begins, template=template), ASK)
    assert ids.count(1) == int(begins)


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 5, 17)


@pytest.mark.parametrize(("name", "written"), [("llama3", "today 26 Jul 2024"), ("harmony", "today 2024-07-26")])
def test_a_template_that_asks_for_the_day_is_told_the_same_one_whatever_the_clock_says(
    load, monkeypatch, name, written
):
    from transformers.utils import chat_template_utils

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert "2031" in manner(name).apply_chat_template(ASK, tokenize=False)  # so the clock is the template's
    tokenizer = load(name)
    assert written in render(tokenizer, ASK)
    assert template_arguments(tokenizer) == {"strftime_now": "2024-07-26"}
    assert "17 May" not in render(tokenizer, ASK, {})
    told = load(name, arguments={"strftime_now": "2026-01-31"})
    assert ("31 Jan 2026" if name == "llama3" else "2026-01-31") in render(told, ASK)
    assert template_arguments(load("chatml")) == {}


def test_the_day_is_a_date_and_a_template_that_asks_for_none_is_given_none(load):
    with pytest.raises(SettingError, match="'soon', which is no date"):
        load("llama3", arguments={"strftime_now": "soon"})
    with pytest.raises(SettingError, match="does not read `strftime_now`"):
        load("chatml", arguments={"strftime_now": "2026-01-31"})
    assert "today now" in render(load("llama3", arguments={"date_string": "now"}), ASK)


def test_a_system_prompt_goes_before_what_has_no_system_turn(load):
    tokenizer = load("chatml", system_prompt="be brief")
    assert render(tokenizer, ASK).startswith("<turn> system be brief <end> <turn> user how")
    assert render(load("chatml"), ASK).startswith("<turn> system be kind <end>")  # the template's own
    assert "system no" in render(tokenizer, [{"role": "system", "content": "no"}, *ASK])
    assert "be brief" not in render(tokenizer, [{"role": "system", "content": "no"}, *ASK])
    assert template_tail(tokenizer) == " <end> <turn> assistant "


@pytest.mark.parametrize(("name", "said"), [("gemma", "System role not supported"), ("deaf", "it leaves it out")])
def test_a_template_without_a_system_role_is_refused_with_what_it_says_and_the_ways_out(load, name, said):
    with pytest.raises(ModelError) as error:
        render(load(name), TOLD)
    assert said in str(error.value)
    assert "does not write what the system says" in str(error.value)
    assert "before the first words of the user" in str(error.value)
    with pytest.raises(ModelError, match="does not write what the system says"):
        load(name, system_prompt="be brief")
    assert "how do i bake" in render(load(name), ASK)


def test_demonstrations_with_a_system_turn_are_refused_by_file_and_row_before_a_model_is_loaded(load, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"question": "how", "safe": "no", "unsafe": ""}\n{"question": "how", "safe": "no", "unsafe": "yes"}\n'
        '{"prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "how"}],'
        ' "safe": "no", "unsafe": "yes"}\n'
    )
    pairs = Demonstrations(str(path), skip_incomplete=True)
    pairs.read()
    pairs.check(load("chatml"))
    with pytest.raises(DataError, match=r"pairs.jsonl, row 3: .*System role not supported"):
        pairs.check(load("gemma"))


@pytest.mark.parametrize("position", ["last", "first_response", "end_of_prompt", "end_of_instruction"])
def test_of_several_turns_the_last_is_read(load, position):
    tokenizer, whole = load("bos"), [*TURNS, {"role": "assistant", "content": "no window"}]
    one = passage(tokenizer, whole, position)
    read = {"last": "window", "first_response": "no", "end_of_prompt": "assistant", "end_of_instruction": ","}
    assert VOCABULARY[one.ids[one.read[0]]] == read[position]
    assert len(one.ids) > len(passage(tokenizer, ANSWERED, position).ids)


HARMONY = "<|channel|> analysis <|message|> no <|end|> <|start|> assistant <|channel|> final <|message|> yes ."


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (f"{HARMONY} <|return|> <pad>", HARMONY),
        ("[THINK] no [/THINK] yes . <eos>", "[THINK] no [/THINK] yes ."),
        ("<think> no </think> yes . <eos> <pad>", "<think> no </think> yes ."),  # no special tokens
        ("<|message|> yes <|end|> <eos>", "yes"),  # without a thought there is nothing to part
        ("yes . <eos> <pad> <pad>", "yes ."),
    ],
)
def test_a_reply_keeps_the_marks_of_its_thought_and_no_other_special_token(reply, text):
    assert decode(manner("harmony"), ids_of(reply)) == text


def test_predict_shows_the_marks_and_the_one_that_the_template_wrote(monkeypatch, tmp_path):
    import json

    import torch
    from transformers import LlamaForCausalLM

    from sa_lightning.cli import main

    asked = []

    generate = LlamaForCausalLM.generate

    def said(self, input_ids, **settings):
        if settings["max_new_tokens"] == 1:  # the trial of a model that is loaded
            return generate(self, input_ids, **settings)
        asked.append(input_ids)
        new = torch.tensor([ids_of("no </think> [THINK] yes [/THINK] . <eos>")] * len(input_ids))
        return torch.cat([input_ids, new], 1)

    model = saved(talker(), tmp_path / "model", manner("r1", begins=True))
    rows = [{"messages": TURNS}, {"prompt": "how"}, {"prompt": TOLD}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(LlamaForCausalLM, "generate", said)
    main(["predict", "--model.target", str(model), "--data.file", str(tmp_path / "asked.jsonl"), "--data.batch_size",
          "1", "--output", str(tmp_path / "out"), "--trainer.accelerator", "cpu"])  # fmt: skip
    found = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in found] == [TURNS, "how", TOLD]
    assert {row["replies"]["original"] for row in found} == {"<think> no </think> [THINK] yes [/THINK] ."}
    by_length = sorted(
        (TURNS, [{"role": "user", "content": "how"}], TOLD), key=lambda m: sum(len(t["content"]) for t in m)
    )
    tokenizer = load_tokenizer(str(model))
    assert [ids[0].tolist() for ids in asked[-3:]] == [tokenize(tokenizer, messages)[0] for messages in by_length]
    assert all(ids[0].tolist().count(1) == 1 for ids in asked[-3:])
