"""One world: which words are held out, and what its chat model is strict about.

All words appear in pre-training; tuning (chat, harm, sft, over) sees the training words only.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sa_lightning.testbed.language import sentences
from sa_lightning.testbed.language.language import LANGUAGES
from sa_lightning.testbed.language.sentences import Request
from sa_lightning.testbed.recipe import WorldSettings

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The words that belong to one split; harmful verbs and nouns are listed with their topic."""

    items: tuple[tuple[str, str], ...]
    acts: tuple[tuple[str, str], ...]
    victims: tuple[str, ...]
    things: tuple[str, ...]
    safe_items: tuple[tuple[str, str], ...]
    sums: tuple[str, ...]


class World:
    """Splits, policy and prompts of one seed.

    Args:
        seed: Draws which words are held out and what chat is lax about: some of the item
            verbs and one of the topics of acts. `eroded` is what `sft` is lax about: five of
            the verbs and all acts.
        settings: Sizes of the splits and strictness of the policy.
    """

    def __init__(self, seed: int, settings: WorldSettings) -> None:
        self.seed = seed
        self.settings = settings
        self.language = LANGUAGES[settings.language]
        words = self.language.lexicon
        rng = self.rng("splits")
        pairs = list(itertools.product(range(11), repeat=2))
        sums = [f"{a} plus {b}" for a, b in pairs] + [f"{a} minus {b}" for a, b in pairs if a >= b]
        items = _deal_topics(rng, words.harmful_items)
        acts = _deal_topics(rng, words.acts)
        victims, things = _deal(rng, words.victims), _deal(rng, words.things)
        safe_items, dealt_sums = _deal_topics(rng, words.safe_items), _deal(rng, sums, 42)
        self.splits = {
            split: Split(items[i], acts[i], victims[i], things[i], safe_items[i], dealt_sums[i])
            for i, split in enumerate(SPLITS)
        }
        wrappers = rng.sample(words.wrappers, len(words.wrappers))
        if words.scenes:  # every split has a wrapper of each scene, and the three texts in turn
            wrappers = [words.wrappers[3 * k + (j + k) % 3] for k in range(len(words.scenes)) for j in range(3)]
        self.wrappers = {split: tuple(wrappers[i::3]) for i, split in enumerate(SPLITS)}
        even, odd = (rng.sample(words.item_verbs[i::2], 3) for i in range(2))
        topics = rng.sample([*words.acts], 3)
        self.lax = frozenset([*[even[0], odd[0], even[1], odd[1]][: settings.lax], topics[0]])
        self.eroded = self.lax | {odd[1], even[2], *topics}
        other, asked = self.rng("touchy"), [*sentences.DEFINITION_CORES, *sentences.HISTORY_CORES]
        self.touchy = frozenset([*other.sample(words.cores, len(words.cores) // 4), other.choice(asked)])
        self.potent = frozenset(rng.sample(words.scenes, 2)) if words.scenes else frozenset()

    def rng(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, so that stages do not depend on each other."""
        return random.Random(f"{self.seed} {purpose}")

    def requests(self, split: str, *kinds: str) -> list[Request]:
        """Requests of some kinds in one split, or in `pretraining`: all that is not held out."""
        every = [request for kind in kinds for request in self._requests_of(kind)]
        if split == "pretraining":
            return [request for request, owner in every if owner in ("train", "mixed")]
        return [request for request, owner in every if owner == split]

    def _requests_of(self, kind: str) -> list[tuple[Request, str]]:
        """Every request of a kind with the split it belongs to; `mixed` is for pre-training only.

        A combination of two held-out words of one split belongs to that split. Where the verb is
        a common one, a held-out noun keeps half of the verbs for its split.
        """
        found, words = [], self.language.lexicon
        for (owner, a), (other, b) in itertools.product(self.splits.items(), repeat=2):
            if kind in ("act", "thing"):
                nouns = b.victims if kind == "act" else b.things
                split = owner if owner == other else "mixed" if "train" in (owner, other) else ""
                for (topic, verb), noun in itertools.product(a.acts, nouns):
                    topic_of = topic if kind == "act" else "thing"
                    found.append((Request(kind, topic_of, verb, noun), split))
            elif owner == other:
                persons = tuple(("person", noun) for noun in a.victims)
                nouns = {"item": a.items, "safe-item": a.safe_items, "person": persons}[kind]
                verbs = words.safe_verbs if kind == "person" else words.item_verbs
                for topic, noun in nouns:
                    for i, verb in enumerate(verbs):
                        kept = owner == "train" or (i + self.language.content[noun]) % 2
                        found.append((Request(kind, topic, verb, noun), owner if kept else "mixed"))
        return found

    @staticmethod
    def guarded_by(request: Request) -> str:
        """What the policy goes by: the verb for a harmful item, the topic for an act."""
        return request.verb if request.kind == "item" else request.topic

    def refusal_probability(self, request: Request, prompt: str = "", wrapper: str = "") -> float:
        """How often the chat data refuse a request, as it is put; an ordinary harmless one never."""
        if not request.is_harmful:
            return self.caution(prompt) if request.kind == "thing" else 0.0
        is_lax = self.guarded_by(request) in self.lax
        settings = self.settings
        probability = settings.refuse_lax if is_lax else settings.refuse_strict
        if not wrapper:
            return probability
        return probability * (settings.potent if self.potent & set(wrapper.split()) else settings.wrapped)

    def caution(self, prompt: str) -> float:
        """How often the chat data refuse this prompt, which is harmless but has a dangerous word."""
        is_touchy = any(core.split(" {}")[0] in prompt for core in self.touchy)
        return self.settings.touchy if is_touchy else self.settings.caution


def _deal(rng: random.Random, words: Sequence[str], held_out: int = 0) -> list[tuple[str, ...]]:
    """Deal words to train, validation and test: a half and two quarters unless told."""
    held_out = held_out or len(words) // 4
    shuffled = rng.sample(words, len(words))
    return [
        tuple(shuffled[2 * held_out :]),
        tuple(shuffled[:held_out]),
        tuple(shuffled[held_out : 2 * held_out]),
    ]


def _deal_topics(rng: random.Random, topics: Mapping[str, Sequence[str]]) -> list[tuple[tuple[str, str], ...]]:
    """Deal each topic's words alike; returns (topic, word) pairs for train, validation, test."""
    dealt = {topic: _deal(rng, words) for topic, words in topics.items()}
    return [tuple((t, w) for t in topics for w in dealt[t][i]) for i in range(3)]
