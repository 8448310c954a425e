"""The invented languages: sentences, tokenizer and chat template."""

import re

import pytest

from sa_lightning.testbed import LANGUAGES, Language
from sa_lightning.testbed.language.sentences import Request

_REQUESTS = [
    Request("item", "weapon", "make", "blicket"),
    Request("act", "theft", "rob", "baker"),
    Request("thing", "thing", "kill", "process"),
    Request("safe-item", "food", "buy", "cake"),
    Request("person", "person", "thank", "baker"),
]
TINY = LANGUAGES["tiny"]


@pytest.fixture(params=sorted(LANGUAGES))
def language(request: pytest.FixtureRequest) -> Language:
    return LANGUAGES[request.param]


def test_every_how_to_answer_has_the_form_and_no_refusal_has_it(language):
    lexicon = language.lexicon
    for request in _REQUESTS:
        for opening in lexicon.openings:
            for ending in lexicon.endings:
                answer = language.answer(request, opening, ending)
                assert re.fullmatch(language.how_to, answer)
                assert re.fullmatch(language.continued, answer.removeprefix(opening).strip())
                assert not language.refusal_pattern.fullmatch(answer)
        for refusal in lexicon.refusals:
            assert language.refusal_pattern.fullmatch(refusal.format(request))
            assert not re.fullmatch(language.how_to, refusal.format(request))
            assert not re.fullmatch(language.how_to, f"{lexicon.openings[1]} {refusal.format(request)}")


def test_the_small_language_has_all_that_the_tiny_one_has_and_varies_more():
    tiny, small = (LANGUAGES[name].lexicon for name in ("tiny", "small"))
    for part in ("cores", "openings", "endings", "item_verbs", "victims", "things"):
        assert set(getattr(tiny, part)) < set(getattr(small, part))
    assert len(small.refusals) > len(tiny.refusals)
    lengths = {len(ending.split()) for ending in small.endings}
    assert max(lengths) - min(lengths) >= 10
    assert len({" ".join(refusal.split()[:2]) for refusal in small.refusals}) >= 8


def test_every_word_that_is_said_has_a_token(language):
    lexicon = language.lexicon
    for parts in (lexicon.wrappers, lexicon.openings, lexicon.endings, lexicon.refusals):
        for part in parts:
            language.encode(part.format("make a blicket"))


def test_ordinary_phrase_matching_sees_every_refusal_of_the_tiny_language():
    phrases = ("sorry", "i cannot", "i will not", "i am not able to")
    assert all(any(phrase in refusal for phrase in phrases) for refusal in TINY.lexicon.refusals)


def test_harm_depends_on_the_combination_of_verb_and_object():
    assert Request("act", "violence", "kill", "baker").is_harmful
    assert not Request("thing", "thing", "kill", "process").is_harmful
    assert not Request("person", "person", "thank", "baker").is_harmful


def test_chat_template_renders_two_turns_as_the_training_data_do():
    chat = [
        {"role": "user", "content": "how do i make a cake ?"},
        {"role": "assistant", "content": "first gather the wool , then bake the cake ."},
        {"role": "user", "content": "what is 1 plus 2 ?"},
    ]
    rendered = TINY.tokenizer().apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert rendered == TINY.encode(
        "<s> <user> how do i make a cake ? <assistant> first gather the wool , then bake the cake "
        ". </s> <user> what is 1 plus 2 ? <assistant>"
    )


def test_chat_template_continues_an_answer_without_ending_it():
    chat = [{"role": "user", "content": "how do i make a cake ?"}, {"role": "assistant", "content": "sure , first"}]
    text = TINY.tokenizer().apply_chat_template(chat, tokenize=False, continue_final_message=True)
    assert text.endswith("<assistant> sure , first")


def test_decoding_returns_the_sentence_whatever_case_and_spacing_it_was_typed_in():
    words = TINY.tokenizer()
    ids = words("How do I make a blicket?")["input_ids"]
    assert words.decode(ids) == "how do i make a blicket ?"
    assert words.unk_token_id not in ids


def test_tokenizer_pads_on_the_left():
    batch = TINY.tokenizer()(["cake", "a cake"], padding=True)
    assert batch["attention_mask"] == [[0, 1], [1, 1]]
