import re

import pytest
from support.models import word_tokenizer

from sa_lightning.errors import ModelError
from sa_lightning.models import load_tokenizer, render, tokenize

QUESTION = {"role": "user", "content": "how do i bake a cake"}
ANSWER = {"role": "assistant", "content": "first bake ."}


@pytest.fixture
def saved(tmp_path):
    def save(template):
        word_tokenizer(template).save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_a_question_gets_the_generation_prompt_and_an_answer_stops_at_its_last_word(saved):
    from support.models import CHAT_TEMPLATE

    tokenizer = load_tokenizer(saved(CHAT_TEMPLATE))
    assert render(tokenizer, [QUESTION]) == "<bos><user> how do i bake a cake <assistant>"
    assert render(tokenizer, [QUESTION, ANSWER]) == "<bos><user> how do i bake a cake <assistant> first bake ."
    assert tokenizer.decode(tokenize(tokenizer, [QUESTION, ANSWER])[0][-1]) == "."


def test_no_chat_template_is_refused_with_the_ways_out(saved):
    with pytest.raises(ModelError) as error:
        load_tokenizer(saved(None))
    message = str(error.value)
    assert "has no chat template" in message
    assert "`--template plain`" in message
    assert not re.search(r"[.:][A-Z]", message)


def test_plain_and_question_answer_templates_write_what_they_say(saved):
    source = saved(None)
    plain = load_tokenizer(source, "plain")
    assert render(plain, [QUESTION]) == "how do i bake a cake\n"
    assert render(plain, [QUESTION, ANSWER]) == "how do i bake a cake\nfirst bake ."
    paper = load_tokenizer(source, "question_answer")
    assert render(paper, [QUESTION]) == "Question: how do i bake a cake\nAnswer:"
    assert render(paper, [QUESTION, ANSWER]) == "Question: how do i bake a cake\nAnswer: first bake ."


def test_a_template_file_is_read_and_a_missing_one_refused(saved, tmp_path):
    source = saved(None)
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    assert render(load_tokenizer(source, str(tmp_path / "mine.jinja")), [QUESTION]) == "[how do i bake a cake]"
    with pytest.raises(ModelError, match=r"nowhere.jinja.* is neither"):
        load_tokenizer(source, "nowhere.jinja")


def test_long_conversations_lose_their_beginning_and_keep_bos_and_the_end_of_the_answer(saved):
    from support.models import CHAT_TEMPLATE

    tokenizer = load_tokenizer(saved(CHAT_TEMPLATE))
    whole, cut = tokenize(tokenizer, [QUESTION, ANSWER])
    assert not cut
    short, cut = tokenize(tokenizer, [QUESTION, ANSWER], max_length=5)
    assert cut
    assert short == [whole[0], *whole[-4:]]


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(ModelError, match="No tokenizer could be loaded from"):
        load_tokenizer(str(tmp_path))
