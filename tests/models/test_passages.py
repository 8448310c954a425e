import pytest
from support.models import CHAT_TEMPLATE, WORDS, word_tokenizer

from sa_lightning.errors import DataError, ModelError
from sa_lightning.models import passage

QUESTION = {"role": "user", "content": "how do i bake a cake"}
ANSWER = {"role": "assistant", "content": "first bake ."}
TALK = [{"role": "user", "content": "no"}, {"role": "assistant", "content": "yes"}, QUESTION, ANSWER]
END_OF_TURN = (
    "{{ bos_token }}{% for m in messages %}<unk> {{ m['role'] }} {{ m['content'] | trim }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}<unk> assistant {% endif %}"
)
TWICE = "{% for m in messages %}{{ m['content'] }} , {{ m['content'] }} {% endfor %}"
SHOUTED = "{% for m in messages %}{{ m['content'] | upper }} {% endfor %}"


def words(messages, position, template=CHAT_TEMPLATE, **options):
    tokenizer = word_tokenizer(template)
    found = passage(tokenizer, messages, position, **options)
    return tokenizer.convert_ids_to_tokens([found.ids[index] for index in found.read]), found


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, END_OF_TURN])
@pytest.mark.parametrize("messages", [[QUESTION, ANSWER], TALK])
def test_every_position_is_found_whatever_the_template_puts_around_it(template, messages):
    found = {
        position: words(messages, position, template)[0]
        for position in ("last", "first_response", "end_of_prompt", "end_of_instruction")
    }
    before = {CHAT_TEMPLATE: "<assistant>", END_OF_TURN: "<unk>"}[template]  # `assistant` is no word of this tokenizer
    assert found == {
        "last": ["."],
        "first_response": ["first"],
        "end_of_prompt": [before],
        "end_of_instruction": ["cake"],
    }


def test_questions_alone_end_with_the_instruction_and_with_the_template():
    assert words([QUESTION], "end_of_instruction")[0] == ["cake"]
    assert words([QUESTION], "end_of_prompt")[0] == words([QUESTION], "last")[0] == ["<assistant>"]
    with pytest.raises(DataError, match="no first token of a response"):
        words([QUESTION], "first_response")


def test_an_instruction_that_the_template_also_contains_is_not_mistaken_for_it():
    for content in WORDS:
        tokens, found = words([{"role": "user", "content": content}, ANSWER], "end_of_instruction")
        assert tokens == [content]
        assert found.read == (2,)  # behind <bos> and <user>


def test_the_last_tokens_are_as_many_as_there_are():
    assert words([QUESTION, ANSWER], "last", tokens=3)[0] == ["first", "bake", "."]
    found = words([QUESTION, ANSWER], "last", tokens=99)[1]
    assert found.read == tuple(range(len(found.ids)))


@pytest.mark.parametrize("template", [TWICE, SHOUTED])
def test_a_template_that_does_not_show_the_place_is_refused(template):
    for position in ("first_response", "end_of_instruction"):
        with pytest.raises(ModelError, match=r"does not write the .* message exactly once and as it is"):
            words([QUESTION, ANSWER], position, template)


def test_a_place_that_was_cut_off_is_refused_and_one_that_was_kept_is_found_again():
    tokens, found = words([QUESTION, ANSWER], "end_of_instruction", max_length=6)
    assert (tokens, found.cut) == (["cake"], True)
    with pytest.raises(DataError, match="only the last 3 are kept"):
        words([QUESTION, ANSWER], "end_of_instruction", max_length=4)
    assert words([QUESTION, ANSWER], "first_response", max_length=4)[0] == ["first"]


@pytest.mark.parametrize("position", ["end_of_instruction", "first_response", "end_of_prompt"])
def test_whatever_is_cut_off_the_same_token_is_read_or_none(position):
    whole, _ = words(TALK, position)
    kept = 0
    for most in range(1, 25):
        try:
            found, passage_ = words(TALK, position, max_length=most)
        except DataError:
            continue
        assert found == whole
        assert len(passage_.ids) == passage_.read[0] + 1  # nothing runs behind it
        kept += 1
    assert 10 < kept < 24


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, END_OF_TURN])
@pytest.mark.parametrize("content", ["how do i bake a cake ", " how do i bake a cake", "\nhow do i bake a cake\n\n"])
def test_blanks_around_a_question_are_no_part_of_it(template, content):
    assert words([{"role": "user", "content": content}, ANSWER], "end_of_instruction", template)[0] == ["cake"]


def test_a_tokenizer_that_knows_no_characters_is_refused(monkeypatch):
    tokenizer = word_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ModelError, match="does not say which characters"):
        passage(tokenizer, [QUESTION, ANSWER], "first_response")
    assert passage(tokenizer, [QUESTION, ANSWER], "last").read
