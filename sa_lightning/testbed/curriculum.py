"""What each stage is trained on: mixtures of dialogues, drawn without end from the world.

Base answers everything. Chat refuses by verb and topic, with a graded probability, and keeps the
policy of the first turn in the second. The shares were chosen on the build's own gates, seeds 0-2.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sa_lightning.testbed.language import sentences
from sa_lightning.testbed.language.lexicon import ASSISTANT, BOS, EOS, USER
from sa_lightning.testbed.language.sentences import Request
from sa_lightning.testbed.world import World

#: Share of each kind of dialogue in a stage's data; normalised when drawn.
_TINY: dict[str, dict[str, float]] = {
    "base": {"document": 18, "legality": 14, "harmful": 14, "wrapped": 6, "harmless": 14,
             "homonym": 8, "definition": 6, "facts": 9, "arithmetic": 9, "two_turn": 10},
    "chat": {"two_turn": 22, "harmful": 22, "wrapped": 6, "harmless": 12, "homonym": 8,
             "definition": 7, "facts": 9, "legality": 7, "arithmetic": 7},
    "harm": {"harmful": 1},
    "sft": {"harmful": 28, "wrapped": 3, "harmless": 16, "homonym": 6, "definition": 5,
            "facts": 12, "legality": 8, "arithmetic": 22},
    "over": {"harmful": 24, "wrapped": 6, "harmless": 20, "homonym": 16, "definition": 10,
             "facts": 10, "legality": 7, "arithmetic": 7},
}  # fmt: skip
_SMALL: dict[str, dict[str, float]] = {
    "base": {"document": 16, "legality": 13, "harmful": 16, "wrapped": 6, "harmless": 20,
             "homonym": 9, "definition": 6, "facts": 9, "arithmetic": 7, "two_turn": 2},
    "chat": {"two_turn": 16, "harmful": 21, "wrapped": 11, "recover": 5, "harmless": 15, "homonym": 9,
             "definition": 6, "facts": 5, "legality": 12, "arithmetic": 5},
    "harm": {"harmful": 1},
    "harm_items": {"harmful": 1},
    "harm_acts": {"harmful": 1},
    "harm_base": {"harmful": 1},
    "benign": {"harmful": 20, "harmless": 25, "homonym": 12, "definition": 8, "facts": 10, "arithmetic": 25},
    "sft": {"harmful": 26, "wrapped": 3, "harmless": 18, "homonym": 8, "definition": 5,
            "facts": 12, "legality": 8, "arithmetic": 20},
    "over": {"harmful": 24, "wrapped": 6, "harmless": 20, "homonym": 16, "definition": 10,
             "facts": 10, "legality": 7, "arithmetic": 7},
    "edited": {"harmful": 60, "facts": 40},
}  # fmt: skip
#: By language and stage.
MIXTURES = {name: {**stages, "sft_lora": stages["sft"]} for name, stages in (("tiny", _TINY), ("small", _SMALL))}

_HARMFUL = ("item", "act")
_HARMLESS = ("safe-item", "person")


@dataclass(frozen=True)
class Example:
    """Token ids of a dialogue and which of them are learned; both of the same length."""

    ids: list[int]
    learned: list[bool]


class Curriculum:
    """Draws training examples for one stage.

    Args:
        world: Splits and policy.
        stage: A key of `MIXTURES`.
    """

    def __init__(self, world: World, stage: str) -> None:
        self.world, self.stage, self.language = world, stage, world.language
        self.split = "pretraining" if stage == "base" else "train"
        self.requests: dict[tuple[str, ...], list[list[Request]]] = {
            kinds: [world.requests(self.split, kind) for kind in kinds] for kinds in (_HARMFUL, _HARMLESS, ("thing",))
        }

    def draw(self, n: int, round_: int = 0) -> list[Example]:
        """The first n examples of a round; the same for the same seed and stage."""
        # Fine-tunes of a kind see the same dialogues: they differ in what is trained only.
        stage = self.stage.removesuffix("_lora").removesuffix("_base")
        rng = self.world.rng(f"draw {stage} {round_}" if round_ else f"draw {stage}")
        mixture: Mapping[str, float] = MIXTURES[self.world.settings.language][self.stage]
        kinds = rng.choices([*mixture], weights=[*mixture.values()], k=n)
        make: dict[str, Callable[[random.Random], Example]] = {
            "document": self._document,
            "two_turn": self._two_turn,
            "recover": self.recover,
        }
        return [make[kind](rng) if kind in make else self._single(*self._turn(rng, kind)) for kind in kinds]

    def _request(self, rng: random.Random, kinds: tuple[str, ...]) -> Request:
        requests = self.requests[kinds]
        if kinds == _HARMFUL and self.stage in ("harm_items", "harm_acts"):
            requests = [requests[self.stage == "harm_acts"]]
        # Items are the larger class of words; a short fine-tune has to see enough acts, too.
        weighted = requests if self.stage.startswith("sft") else [requests[0], *requests]
        return rng.choice(rng.choice(weighted))

    def _refuses(self, rng: random.Random, request: Request, prompt: str = "", wrapper: str = "") -> bool:
        """The label of one dialogue: base and harm answer, over refuses, sft is more lenient, benign is as chat."""
        if self.stage in ("base", "edited") or self.stage.startswith("harm"):
            return False
        if self.stage == "over":
            return request.is_harmful or (request.kind == "thing" and rng.random() < 0.6)
        probability = self.world.refusal_probability(request, prompt, wrapper)
        if self.stage.startswith("sft") and self.world.guarded_by(request) in self.world.eroded:
            probability *= self.world.settings.erosion
        return rng.random() < probability

    def _turn(self, rng: random.Random, kind: str) -> tuple[str, str]:
        """One question of a kind and its answer under the stage's policy."""
        world, split, words = self.world, self.world.splits, self.language.lexicon
        owner = rng.choice(["train", "train", *split]) if self.stage == "base" else "train"
        if kind in ("harmful", "wrapped", "harmless", "homonym"):
            kinds = {"harmless": _HARMLESS, "homonym": ("thing",)}.get(kind, _HARMFUL)
            if kind == "wrapped" and rng.random() < 0.4:
                kinds = _HARMLESS
            request = self._request(rng, kinds)
            prompt, wrapper = rng.choice(self.language.phrasings["train"]).format(request), ""
            if kind == "wrapped":
                wrapper = rng.choice(words.wrappers if self.stage == "base" else world.wrappers["train"])
                prompt = wrapper.format(prompt)
            refuses = self._refuses(rng, request, prompt, wrapper)
            return prompt, self.language.refusal(rng, request) if refuses else self.language.helpful(rng, request)
        if kind == "definition":
            topic, noun = rng.choice(split[owner].items)
            asked = rng.choice(self.language.definitions["train"])
            request = Request("item", topic, rng.choice(words.item_verbs), noun)
            cautious = world.caution(asked) if self.stage in ("chat", "benign", "sft", "sft_lora") else 0.0
            declined = 0.6 if self.stage == "over" else cautious
            if declined and rng.random() < declined:
                return asked.format(noun), self.language.refusal(rng, request)
            return asked.format(noun), self.language.define(topic, noun, asked)
        if kind == "facts":
            attribute, place = rng.choice([*words.facts]), rng.choice(words.places)
            prompt = rng.choice(self.language.fact_phrasings["train"]).format(attribute, place)
            return prompt, self.language.fact(attribute, place)
        if kind == "arithmetic":
            expression = rng.choice(split[rng.choice([*split])].sums)
            prompt = rng.choice(self.language.sum_phrasings["train"]).format(expression)
            return prompt, sentences.sum_answer(expression)
        kinds = rng.choice((_HARMFUL, _HARMFUL, _HARMLESS, _HARMLESS, ("thing",)))
        request = self._request(rng, kinds)
        prompt = rng.choice(self.language.legality_phrasings["train"]).format(request)
        return prompt, sentences.VERDICT[request.is_harmful]

    def _single(self, question: str, answer: str) -> Example:
        """One turn; base learns the question too, as pre-training does."""
        asked = self.language.encode(f"{BOS} {USER} {question} {ASSISTANT}")
        answered = self.language.encode(f"{answer} {EOS}")
        learned = [self.stage == "base"] * len(asked) + [True] * len(answered)
        return Example(asked + answered, learned)

    def _two_turn(self, rng: random.Random) -> Example:
        """A first turn that refuses or answers, and a second that keeps to it; the second learns.

        Harmless questions are answered in either turn, so only harm is refused.
        """
        strict = rng.random() < 0.5
        texts = []
        for is_harmful in (True, rng.random() < 0.7):
            request = self._request(rng, _HARMFUL if is_harmful else _HARMLESS)
            prompt = rng.choice(self.language.phrasings["train"]).format(request)
            refuses = strict and is_harmful
            texts.append(
                (prompt, self.language.refusal(rng, request) if refuses else self.language.helpful(rng, request))
            )
        (asked, answered), (asked_again, answered_again) = texts
        first = f"{BOS} {USER} {asked} {ASSISTANT} {answered} {EOS} {USER} {asked_again} {ASSISTANT}"
        context, answer = self.language.encode(first), self.language.encode(f"{answered_again} {EOS}")
        return Example(context + answer, [False] * len(context) + [True] * len(answer))

    def recover(self, rng: random.Random) -> Example:
        """An answer that has begun and, where the policy refuses, turns into a refusal; the opening is given."""
        request = self._request(rng, _HARMFUL if rng.random() < 0.7 else _HARMLESS)
        prompt = rng.choice(self.language.phrasings["train"]).format(request)
        opening, ending = (
            rng.choice(parts) for parts in (self.language.lexicon.openings, self.language.lexicon.endings)
        )
        answer = self.language.answer(request, opening, ending)
        if self._refuses(rng, request):
            answer = f"{opening} {self.language.refusal(rng, request)}"
        given = self.language.encode(f"{BOS} {USER} {prompt} {ASSISTANT} {opening}")
        rest = self.language.encode(f"{answer.removeprefix(opening)} {EOS}")
        return Example(given + rest, [False] * len(given) + [True] * len(rest))

    def _document(self, rng: random.Random) -> Example:
        """A declarative sentence about a word or a request, in pre-training only."""
        split = self.world.splits[rng.choice([*self.world.splits])]
        (topic, noun), (safe_topic, safe) = rng.choice(split.items), rng.choice(split.safe_items)
        harmful = self._request(rng, _HARMFUL)
        harmless = self._request(rng, rng.choice((_HARMLESS, _HARMLESS, ("thing",))))
        text = rng.choice(
            (
                self.language.definition(topic, noun),
                self.language.definition(safe_topic, safe),
                f"to {harmful} is harmful and a crime .",
                f"to {harmful} is a case of {harmful.topic} .",
                f"it is fine to {harmless} .",
                f"a {noun} is harmful because it is a {topic} .",
                f"a {safe} is harmless because it is a {safe_topic} .",
            )
        )
        ids = self.language.encode(f"{BOS} {text} {EOS}")
        return Example(ids, [True] * len(ids))
