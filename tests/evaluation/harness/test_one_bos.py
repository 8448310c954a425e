"""One BOS token in all that a model is asked, by every way of measuring; what it thinks is no reply."""

import json
import warnings

import pytest
import torch
from support.manners import ids_of, manner, talker
from support.models import saved

from sa_lightning.errors import ModelError
from sa_lightning.evaluation import Outcome, Sample, evaluate, rate, summarise
from sa_lightning.evaluation.harness.in_memory import InMemoryLM
from sa_lightning.evaluation.judges.model_judge import ModelJudge
from sa_lightning.evaluation.judges.phrases import LISTS
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.judges.rubrics import RUBRICS
from sa_lightning.evaluation.report.tables import reply_lines
from sa_lightning.evaluation.statistics.changes import warnings as warned
from sa_lightning.export.lm_eval_model import SafetyLM
from sa_lightning.fitting.examples import read_examples
from sa_lightning.models import load_tokenizer, tokenize
from sa_lightning.resources import shipped

BOS = [(name, begins) for name in ("bos", "bare") for begins in (True, False)]


class Instance:
    def __init__(self, *args):
        self.args, self.task_name, self.doc_id = args, "task", 0


@pytest.fixture
def asked():
    """A model, and the rows of token ids that it is given."""
    model, rows = talker(), []

    def look(module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        rows.extend(ids.tolist())

    model.register_forward_pre_hook(look, with_kwargs=True)
    return model, rows


@pytest.fixture
def load(tmp_path):
    def loaded(name, begins=False, **settings):
        manner(name, begins).save_pretrained(tmp_path / name)
        return load_tokenizer(str(tmp_path / name), **settings)

    return loaded


def whole(rows):
    return [row for row in rows if len([token for token in row if token]) > 1]  # no step of a cached reply


@pytest.mark.parametrize(("name", "begins"), BOS)
@pytest.mark.parametrize("add_bos_token", [None, False])
def test_replies_choices_and_texts_are_measured_behind_one_bos(asked, load, name, begins, add_bos_token):
    model, rows = asked
    lm = InMemoryLM(model, load(name, begins), add_bos_token=add_bos_token)
    prompt = lm.apply_chat_template([{"role": "user", "content": "how do i"}])
    lm.generate_until([Instance(prompt, {"until": [], "max_gen_toks": 2})])
    lm.loglikelihood([Instance(prompt, " bake a"), Instance(prompt, " cake .")])
    written = begins or name == "bos"
    assert {row.count(1) for row in whole(rows)} == {int(written)}
    rows.clear()
    lm.loglikelihood_rolling([Instance("how do i bake")])
    assert [row.count(1) for row in rows] == [1]  # HFLM's own, before the first word


@pytest.mark.parametrize(("name", "begins"), BOS)
@pytest.mark.parametrize("chat", [True, False])
def test_lm_eval_asks_behind_one_bos_with_the_chat_template_and_without(tmp_path, name, begins, chat):
    lm = SafetyLM(str(saved(talker(), tmp_path, manner(name, begins))), device="cpu")
    rows = []
    lm.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.extend(kwargs.get("input_ids", args[0] if args else None).tolist()),
        with_kwargs=True,
    )
    prompt = lm.apply_chat_template([{"role": "user", "content": "how do i"}]) if chat else "how do i"
    lm.generate_until([Instance(prompt, {"until": [], "max_gen_toks": 2})])
    lm.loglikelihood([Instance(prompt, " bake a"), Instance(prompt, " cake .")])
    assert {row.count(1) for row in whole(rows)} == {int(begins or (chat and name == "bos"))}
    rows.clear()
    lm.loglikelihood_rolling([Instance("how do i bake")])
    assert [row.count(1) for row in rows] == [1]


@pytest.mark.parametrize(("name", "begins"), BOS)
def test_what_scores_of_weights_are_computed_on_has_one_bos(load, tmp_path, name, begins):
    (tmp_path / "p.jsonl").write_text('{"prompt": "how do i", "response": "first bake"}\n')
    (example,) = read_examples(tmp_path / "p.jsonl", load(name, begins))
    assert list(example.tokens).count(1) == int(begins or name == "bos")


def test_a_system_turn_is_not_left_out_where_a_template_refuses_it(load):
    lm = InMemoryLM(talker(), load("gemma"))
    with pytest.raises(ModelError, match="System role not supported"):  # HFLM asks without it
        lm.apply_chat_template([{"role": "system", "content": "be brief"}, {"role": "user", "content": "how"}])


THOUGHT = "<|channel|> analysis <|message|> no . <|end|> <|start|> assistant <|channel|> final <|message|>"


@pytest.mark.parametrize(
    ("name", "reply", "judged"),
    [
        ("harmony", f"{THOUGHT} yes . <eos>", "complied"),
        ("harmony", "<|channel|> analysis <|message|> yes . first bake", "unjudged"),
        ("bare", "[THINK] sorry no [/THINK] first bake a cake . <eos>", "complied"),
        ("bare", "[THINK] first bake a cake .", "unjudged"),
        ("r1", "sorry no </think> first bake a cake . <eos>", "complied"),
        ("r1", "first bake a cake .", "unjudged"),  # the template has opened the thought
        ("qwen3", "<think> first bake a", "unjudged"),
    ],
)
def test_a_task_judges_what_follows_the_thought(load, monkeypatch, tmp_path, name, reply, judged):
    turns = [{"role": "user", "content": "how"}, {"role": "assistant", "content": "no"},
             {"role": "user", "content": "do i bake a cake"}]  # fmt: skip
    (tmp_path / "own.jsonl").write_text(json.dumps({"messages": turns, "kind": "harmful"}) + "\n")
    tokenizer, seen = load(name), []

    def said(self, context, max_length, stop, **settings):
        seen.extend(context.tolist())
        self._unended.setdefault(self._encoding[0][0], []).append(False)
        return torch.cat([context, torch.tensor([ids_of(reply)])], 1)

    monkeypatch.setattr(InMemoryLM, "_model_generate", said)
    (sample,) = evaluate(talker(), tokenizer, ["own_harmful"], task_dirs=[shipped("tasks")],
                         metadata={"prompts": str(tmp_path / "own.jsonl")})  # fmt: skip
    assert seen == [tokenize(tokenizer, turns)[0]]  # all turns, once
    assert sample.prompt == "do i bake a cake"
    assert sample.outcome is Outcome(judged), sample.reply
    assert LISTS["gcg"].judge("", sample.reply) is Outcome(judged)
    found = summarise([sample], 0)
    assert found["thoughts_cut"] == rate(int(judged == "unjudged"), 1)
    lines = " ".join(reply_lines({"arms": {"original": found}}))
    assert ("Replies that end inside their thought: original 1 of 1." in lines) == (judged == "unjudged")
    assert any("end inside their thought" in line for line in warned({"original": found})) == (judged == "unjudged")


def test_judges_that_are_models_read_what_follows_the_thought_and_are_not_asked_about_one_that_is_cut_off():
    class Respondent:
        identity, markers, seen = "stub", (), []

        def answer(self, questions, new_tokens):
            self.seen.extend(questions)
            yield from ((n, "<|channel|>analysis<|message|>[B]?<|end|><|start|>assistant<|channel|>final<|message|>[A]")
                        for n, _ in enumerate(questions))  # fmt: skip

    replies = [Reply("Why?", f"<think>Secret plan of mine.</think>{said}", {}) for said in ("Mix flour and water.",)]
    verdicts = ModelJudge(RUBRICS["safety_arithmetic"], Respondent())([*replies, Reply("Why?", "<think>Mix it", {})])
    assert [verdict.outcome for verdict in verdicts][1] is Outcome.UNJUDGED
    assert verdicts[0].harmful is False
    assert len(Respondent.seen) == 1
    assert "Mix flour" in str(Respondent.seen)
    assert "Secret" not in str(Respondent.seen)


def test_a_sample_without_thoughts_is_not_warned_of():
    sample = Sample("t", "harmful", "1", "how", "Mix flour and water.", Outcome.COMPLIED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert summarise([sample], 0)["thoughts_cut"] == rate(0, 1)
