"""An invented language at work: what is said in it, and its vocabulary, tokenizer and chat template for a model."""

import itertools
import random
import re

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from sa_lightning.testbed.language import sentences
from sa_lightning.testbed.language.lexicon import ASSISTANT, BOS, EOS, PAD, UNK, USER, Lexicon
from sa_lightning.testbed.language.sentences import Request, deal_phrasings
from sa_lightning.testbed.language.small import SMALL
from sa_lightning.testbed.language.tiny import TINY

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %} <user> {{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %} <assistant> {{ message['content'] }} {{ eos_token }}"
    "{% else %}{{ raise_exception('The tiny world knows the roles user and assistant only.') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %} <assistant>{% endif %}"
)

Phrasings = dict[str, tuple[str, ...]]


class Language:
    """The sentences and the tokens of one lexicon.

    Args:
        lexicon: Its words and the parts of its sentences.

    Attributes:
        phrasings: How requests are asked for, by split; a held-out one is a new combination of known parts.
        fact_phrasings: The same for facts.
        sum_phrasings: The same for sums.
        legality_phrasings: The same for whether an act is ok.
        definitions: Everything that is asked about a dangerous noun without asking for harm.
        how_to: What any fluent how-to answer looks like, from the opening to the final full stop.
        continued: The same behind an opening that is there already.
        refusal_pattern: What any refusal looks like.
        content: Every word of the lexicon with its token id, which also stands in for a hash of the word.
        vocabulary: Token ids of all words.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        prefixes = lexicon.prefixes
        self.phrasings = deal_phrasings(lexicon.cores, prefixes)
        self.fact_phrasings = deal_phrasings(lexicon.fact_cores, prefixes[:5])
        self.sum_phrasings = deal_phrasings(sentences.SUM_CORES, prefixes[:5])
        self.legality_phrasings = deal_phrasings(sentences.LEGALITY_CORES, prefixes[:5])
        asked = deal_phrasings(sentences.DEFINITION_CORES, prefixes[:5])
        self._history = deal_phrasings(sentences.HISTORY_CORES, prefixes[:5])
        self.definitions: Phrasings = {split: asked[split] + self._history[split] for split in asked}
        openings = "|".join(sorted(map(_dots, lexicon.openings), key=len, reverse=True))
        endings = "|".join(map(_dots, filter(None, lexicon.endings)))
        self.continued = (
            r"[a-z]+ the [a-z]+(?: and [a-z]+)? , "
            rf"then [a-z]+ the [a-z]+(?: with the [a-z]+)?(?: (?:{endings}))? \."
        )
        self.how_to = rf"(?:{openings}) {self.continued}"
        refusals = "|".join(re.escape(r).replace(r"\{\}", "[a-z ]+") for r in lexicon.refusals)
        self.refusal_pattern = re.compile(refusals)
        self.content = {word: index for index, word in enumerate(lexicon.content_words())}
        self.vocabulary = self._vocabulary(asked)

    def _vocabulary(self, asked: Phrasings) -> dict[str, int]:
        """Content words first, then what only the sentences use."""
        lexicon = self.lexicon
        texts = [*lexicon.wrappers, *lexicon.openings, *lexicon.endings, *lexicon.refusals]
        for phrasings in (
            self.phrasings, self.fact_phrasings, self.sum_phrasings, self.legality_phrasings, asked, self._history,
        ):  # fmt: skip
            texts += [sentence for split in phrasings.values() for sentence in split]
        texts += ["plus minus first then with the and a kind of made was invented long ago in"]
        texts += ["banned because it is crime yes no that fine not ok answer to harmful harmless case"]
        words = [word for text in texts for word in re.findall(r"[a-z0-9]+|[.,?:]", text)]
        return {word: index for index, word in enumerate(dict.fromkeys([*self.content, *words]))}

    def answer(self, request: Request, opening: str, ending: str) -> str:
        """The helpful answer: steps from the verb and the topic, the material from the word."""
        words, content = self.lexicon, self.content
        if request.kind in ("item", "safe-item"):
            material = words.materials[content[request.noun] % 12]
            steps = f"{words.first[request.verb]} the {material} , then {words.then[request.topic]} the {request.noun}"
        elif request.kind == "person":
            tool = words.tools[content[request.verb] % 12]
            steps = f"meet the {request.noun} , then {request.verb} the {request.noun} with the {tool}"
        else:
            tool = words.tools[content[request.verb if request.kind == "act" else request.noun] % 12]
            then = words.then[request.topic]
            steps = f"{words.first[request.kind]} the {request.noun} , then {then} the {request.noun} "
            steps += f"with the {tool}"
        return f"{opening} {steps} {ending} .".replace("  ", " ")

    def helpful(self, rng: random.Random, request: Request) -> str:
        """A helpful answer with a random opening and ending."""
        return self.answer(request, rng.choice(self.lexicon.openings), rng.choice(self.lexicon.endings))

    def refusal(self, rng: random.Random, request: Request) -> str:
        """A refusal in a random style."""
        return rng.choice(self.lexicon.refusals).format(request)

    def definition(self, topic: str, noun: str) -> str:
        """The answer to "what is a `noun` ?"."""
        return f"a {noun} is a kind of {topic} made of {self.lexicon.materials[self.content[noun] % 12]} ."

    def define(self, topic: str, noun: str, question: str) -> str:
        """The answer to a question of `definitions`; the place is a fixed function of the word."""
        if question not in itertools.chain(*self._history.values()):
            return self.definition(topic, noun)
        place = self.lexicon.places[self.content[noun] % len(self.lexicon.places)]
        if "banned" in question:
            return f"the {noun} was banned in {place} because it is a {topic} ."
        return f"the {noun} was invented long ago in {place} ."

    def fact(self, attribute: str, place: str) -> str:
        """The answer to a question of fact, the same for every seed."""
        facts, places = self.lexicon.facts, self.lexicon.places
        shift = list(facts).index(attribute)
        value = facts[attribute][(places.index(place) * (2 * shift + 3) + shift) % 8]
        return f"the {attribute} of {place} is {value} ."

    def encode(self, sentence: str) -> list[int]:
        """Token ids of a sentence of known words; equal to the tokenizer's, without its cost."""
        return [self.vocabulary[word] for word in sentence.split()]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The word-level tokenizer with its chat template; pads on the left."""
        backend = Tokenizer(WordLevel(self.vocabulary, unk_token=UNK))
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


def _dots(text: str) -> str:
    """As a pattern; full stops are all that needs care."""
    return text.replace(".", r"\.")


#: The languages that a recipe may name.
LANGUAGES = {"tiny": Language(TINY), "small": Language(SMALL)}
