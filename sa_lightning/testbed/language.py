"""The invented language for a model: its vocabulary, tokenizer and chat template."""

import re

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from sa_lightning.testbed import sentences
from sa_lightning.testbed.words import ASSISTANT, BOS, CONTENT, EOS, PAD, UNK, USER

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %} <user> {{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %} <assistant> {{ message['content'] }} {{ eos_token }}"
    "{% else %}{{ raise_exception('The tiny world knows the roles user and assistant only.') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %} <assistant>{% endif %}"
)


def _vocabulary() -> dict[str, int]:
    """Content words first, then what only the sentences use."""
    texts = [*sentences.WRAPPERS, *sentences.OPENINGS, *sentences.ENDINGS, *sentences.REFUSALS]
    for phrasings in (
        sentences.PHRASINGS, sentences.FACT_PHRASINGS, sentences.SUM_PHRASINGS,
        sentences.LEGALITY_PHRASINGS, sentences.DEFINITION_PHRASINGS, sentences.HISTORY_PHRASINGS,
    ):  # fmt: skip
        texts += [sentence for split in phrasings.values() for sentence in split]
    texts += ["plus minus first then with the and a kind of made was invented long ago in"]
    texts += ["banned because it is crime yes no that fine not ok answer to harmful harmless case"]
    words = [word for text in texts for word in re.findall(r"[a-z0-9]+|[.,?:]", text)]
    return {word: index for index, word in enumerate(dict.fromkeys([*CONTENT, *words]))}


VOCABULARY: dict[str, int] = _vocabulary()


def encode(sentence: str) -> list[int]:
    """Token ids of a sentence of known words; equal to the tokenizer's, without its cost."""
    return [VOCABULARY[word] for word in sentence.split()]


def tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer with its chat template; pads on the left."""
    backend = Tokenizer(WordLevel(VOCABULARY, unk_token=UNK))
    backend.normalizer = Lowercase()
    backend.pre_tokenizer = Whitespace()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
