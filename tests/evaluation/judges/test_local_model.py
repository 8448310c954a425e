"""A judge's model in this process: the answers of a batch are those of each question on its own."""

import pytest
import torch
from support.manners import manner
from support.models import llama, saved, word_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.evaluation import Outcome, Verdict, load_judge
from sa_lightning.evaluation.judges.local_model import TransformersModel, _tokenised
from sa_lightning.evaluation.judges.replies import Reply
from sa_lightning.evaluation.judges.rubrics import RUBRICS

TEXTS = ["how do i bake a cake", "yes", "no , sorry .", "first break a window , then bake a cake , then no", "do i"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = llama(seed=4)
    model.config.max_position_embeddings = 512
    return str(saved(model, tmp_path_factory.mktemp("judge")))


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """A random model that says nothing but `yes` and `no`, and not the same of a cake and of a window."""
    model, tokenizer = llama(seed=1), word_tokenizer()
    model.config.max_position_embeddings = 512
    yes, no = tokenizer("yes no").input_ids
    asked = [RUBRICS["harmbench"].question("how do i", f"bake {noun} first .") for noun in ("cake", "window")]
    cake, window = (model.model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1] for text in asked)
    leaning = cake - window
    model.lm_head.weight.zero_()
    model.lm_head.weight[yes], model.lm_head.weight[no] = leaning, -leaning
    return str(saved(model, tmp_path_factory.mktemp("decided"), tokenizer))


@pytest.fixture(scope="module")
def ends(tmp_path_factory, checkpoint):
    """The same as `checkpoint`, but the second of its words ends its answers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer("<bos><user> do i bake <assistant>", return_tensors="pt").input_ids
    said = model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :].tolist()
    last = list(dict.fromkeys(token for token in said if token not in tokenizer.all_special_ids))[1]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(last)
    model.config.eos_token_id = model.generation_config.eos_token_id = [last, tokenizer.bos_token_id]
    return str(saved(model, tmp_path_factory.mktemp("ends"), tokenizer))


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The same without a chat template."""
    return str(saved(llama(seed=4), tmp_path_factory.mktemp("bare"), word_tokenizer(template=None)))


def alone(checkpoint, text, new_tokens):
    """Greedy decoding, a whole pass for each token."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer(text).input_ids
    start = len(ids)
    for _ in range(new_tokens):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.mark.parametrize("batch_tokens", [1, 30, 100000])
def test_answers_do_not_depend_on_the_batch(checkpoint, batch_tokens):
    found = dict(TransformersModel(checkpoint, batch_tokens=batch_tokens).answer(TEXTS, 6))
    assert [found[index] for index in range(len(TEXTS))] == [alone(checkpoint, text, 6) for text in TEXTS]
    assert len(set(found.values())) > 1


def test_a_conversation_goes_through_the_judges_own_template(checkpoint):
    question = [{"role": "user", "content": "do i bake"}, {"role": "assistant", "content": "no"}]
    written = "<bos><user> do i bake <assistant> no <eos> <assistant>"
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert _tokenised(tokenizer, question) == tokenizer(written).input_ids


def test_a_conversation_that_is_cut_short_is_answered_by_nothing_and_text_by_what_there_is(checkpoint, ends):
    question = [{"role": "user", "content": "do i bake"}]
    written = "<bos><user> do i bake <assistant>"
    cut = TransformersModel(checkpoint)
    assert alone(checkpoint, written, 5)
    assert dict(cut.answer([question, written], 5)) == {0: "", 1: alone(checkpoint, written, 5)}
    said = alone(ends, written, 20)
    assert said
    assert dict(TransformersModel(ends).answer([question], 20)) == {0: said}


def test_half_of_a_surrogate_pair_is_no_trouble(checkpoint):
    assert dict(TransformersModel(checkpoint).answer(["how do i \ud800 bake"], 3)).keys() == {0}


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("name", ["bos", "bare"])
def test_a_question_has_one_bos_token_as_text_or_in_a_conversation(name, begins):
    tokenizer = manner(name, begins)
    turns = [{"role": "user", "content": "a"}]
    counts = [_tokenised(tokenizer, question).count(1) for question in ("how", "<bos> how", turns)]
    assert counts == [int(begins), 1, int(begins or name == "bos")]


def test_text_that_brings_the_first_token_of_most_judges_gets_no_other():
    assert _tokenised(manner("bare", begins=True), "<s> a").count(1) == 0  # a tokenizer that has it reads it


def test_memory_that_runs_out_makes_batches_smaller_and_changes_nothing_else(checkpoint, monkeypatch):
    expected = dict(TransformersModel(checkpoint).answer(TEXTS, 4))
    sizes = []
    generate = type(llama()).generate

    def tight(self, **inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("too much")
        return generate(self, **inputs)

    monkeypatch.setattr(type(llama()), "generate", tight)
    assert dict(TransformersModel(checkpoint).answer(TEXTS, 4)) == expected
    assert sizes[:3] == [1, 5, 2]  # the trial of a model that is loaded, then the batches

    def full(self, **inputs):
        if inputs["max_new_tokens"] == 1:  # the trial
            return generate(self, **inputs)
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(type(llama()), "generate", full)
    with pytest.raises(torch.OutOfMemoryError):
        list(TransformersModel(checkpoint).answer(TEXTS, 4))


def test_a_question_without_room_is_answered_by_none_and_so_unjudged(checkpoint):
    answers = list(TransformersModel(checkpoint).answer(["no " * 508, "no " * 509, "no"], 4))
    assert sorted((index, answer is None) for index, answer in answers) == [(0, False), (1, True), (2, False)]
    judge = load_judge("xstest", model=checkpoint)
    long = Reply("how do i", " ".join(f"cake {n}" for n in range(900)), {})
    assert judge([long]) == [Verdict(Outcome.UNJUDGED)]


def test_verdicts_are_those_of_the_answers(decided):
    texts = [f"{a} {b} {c} ." for a in ("bake", "break") for b in ("cake", "window", "yes") for c in ("first", "then")]
    replies = [Reply("how do i", text, {}) for text in texts]
    questions = [RUBRICS["harmbench"].question(reply.prompt, reply.response) for reply in replies]
    answers = [alone(decided, question, 4).split() for question in questions]
    assert {answer[0] for answer in answers} == {"yes", "no"}
    harmful = [{"yes": True, "no": False}[answer[0]] if len(set(answer)) == 1 else None for answer in answers]
    assert len(set(harmful)) == 2  # where both words are said, neither is a verdict
    progress = []
    verdicts = load_judge("harmbench", model=decided)(replies, lambda *seen: progress.append(seen))
    assert [verdict.harmful for verdict in verdicts] == harmful
    assert [verdict.said.split() for verdict in verdicts] == answers
    assert progress[-1] == (12, 12)


def test_special_tokens_of_the_judges_tokenizer_are_taken_out_of_replies(checkpoint):
    judge = load_judge("harmbench", model=checkpoint)
    assert {"<user>", "<assistant>", "<eos>"} <= set(judge.respondent.markers)
    assert "yes" not in judge.respondent.markers
    asked = []
    judge.respondent.answer = lambda questions, new_tokens: asked.extend(questions) or iter(())
    judge([Reply("how do i <assistant> yes", "no <user> bake <eos> cake", {})])
    assert not any(marker in asked[0] for marker in ("<user>", "<assistant>", "<eos>"))


def test_added_tokens_that_are_not_special_are_taken_out_too(checkpoint, tmp_path):
    llama(seed=4).save_pretrained(tmp_path)
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "window"])
    tokenizer.save_pretrained(tmp_path)
    markers = load_judge("harmbench", model=str(tmp_path)).respondent.markers
    assert "<tool_call>" in markers
    assert "window" not in markers


def test_text_needs_no_chat_template_and_a_conversation_does(bare):
    assert len(dict(TransformersModel(bare).answer(["how do i"], 2))) == 1
    with pytest.raises(ModelError) as error:
        load_judge("xstest", model=bare)([Reply("how do i", "bake a cake", {})])
    assert "no chat template" in str(error.value)
    assert "--local.model" in str(error.value)


def test_mistakes_are_told_before_a_weight_is_read(tmp_path, monkeypatch, checkpoint):
    def read(*arguments, **settings):
        raise AssertionError("a weight was read")

    monkeypatch.setattr("sa_lightning.models.load_model", read)
    with pytest.raises(ModelError) as error:
        load_judge("harmbench", model=str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in str(error.value)
    with pytest.raises(SettingError) as error:
        load_judge("harmbench", model=checkpoint, batch_tokens=0)
    assert "but is 0" in str(error.value)
    for device in (f"cuda:{torch.cuda.device_count()}", "toaster", "meta"):
        with pytest.raises(SettingError) as error:
            load_judge("harmbench", model=checkpoint, device=device)
        assert f"`local.device` is {device}" in str(error.value)
        assert str(error.value).count("\n") == 2
    with pytest.raises(SettingError) as error:
        load_judge("safety_arithmetic")
    assert "no model of its own" in str(error.value)
