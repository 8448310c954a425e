"""What each stage is trained on: mixtures of dialogues, drawn without end from the world.

Base answers everything. Chat refuses by verb and topic, with a graded probability, and keeps the
policy of the first turn in the second. The shares were chosen on the build's own gates, seeds 0-2.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sa_lightning.testbed import sentences, words
from sa_lightning.testbed.language import encode
from sa_lightning.testbed.sentences import Request, helpful, refusal
from sa_lightning.testbed.words import ASSISTANT, BOS, EOS, USER
from sa_lightning.testbed.world import World

#: Share of each kind of dialogue in a stage's data; normalised when drawn.
MIXTURES: dict[str, dict[str, float]] = {
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
MIXTURES["sft_lora"] = MIXTURES["sft"]

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
        self.world, self.stage = world, stage
        self.split = "pretraining" if stage == "base" else "train"
        self.requests: dict[tuple[str, ...], list[list[Request]]] = {
            kinds: [world.requests(self.split, kind) for kind in kinds] for kinds in (_HARMFUL, _HARMLESS, ("thing",))
        }

    def draw(self, n: int) -> list[Example]:
        """The first n examples; the same for the same seed and stage."""
        # Both fine-tunes see the same dialogues: they differ in what is trained only.
        rng = self.world.rng(f"draw {self.stage.removesuffix('_lora')}")
        mixture: Mapping[str, float] = MIXTURES[self.stage]
        kinds = rng.choices([*mixture], weights=[*mixture.values()], k=n)
        make: dict[str, Callable[[random.Random], Example]] = {
            "document": self._document,
            "two_turn": self._two_turn,
        }
        return [make[kind](rng) if kind in make else self._single(*self._turn(rng, kind)) for kind in kinds]

    def _request(self, rng: random.Random, kinds: tuple[str, ...]) -> Request:
        requests = self.requests[kinds]
        # Items are the larger class of words; a short fine-tune has to see enough acts, too.
        weighted = requests if self.stage.startswith("sft") else [requests[0], *requests]
        return rng.choice(rng.choice(weighted))

    def _refuses(self, rng: random.Random, request: Request, wrapped: bool = False) -> bool:
        """The label of one dialogue: base and harm answer, over refuses, sft is more lenient."""
        if self.stage in ("base", "harm"):
            return False
        if self.stage == "over":
            return request.is_harmful or (request.kind == "thing" and rng.random() < 0.6)
        probability = self.world.refusal_probability(request)
        if self.stage.startswith("sft") and self.world.guarded_by(request) in self.world.eroded:
            probability *= self.world.settings.erosion
        return rng.random() < probability * (0.85 if wrapped else 1.0)

    def _turn(self, rng: random.Random, kind: str) -> tuple[str, str]:
        """One question of a kind and its answer under the stage's policy."""
        world, split = self.world, self.world.splits
        owner = rng.choice(["train", "train", *split]) if self.stage == "base" else "train"
        if kind in ("harmful", "wrapped", "harmless", "homonym"):
            kinds = {"harmless": _HARMLESS, "homonym": ("thing",)}.get(kind, _HARMFUL)
            if kind == "wrapped" and rng.random() < 0.4:
                kinds = _HARMLESS
            request = self._request(rng, kinds)
            prompt = rng.choice(sentences.PHRASINGS["train"]).format(request)
            if kind == "wrapped":
                wrappers = world.wrappers["train"]
                wrappers = sentences.WRAPPERS if self.stage == "base" else wrappers
                prompt = rng.choice(wrappers).format(prompt)
            refuses = self._refuses(rng, request, wrapped=kind == "wrapped")
            return prompt, refusal(rng, request) if refuses else helpful(rng, request)
        if kind == "definition":
            topic, noun = rng.choice(split[owner].items)
            asked = rng.choice(sentences.DEFINITIONS["train"])
            request = Request("item", topic, rng.choice(words.ITEM_VERBS), noun)
            if self.stage == "over" and rng.random() < 0.6:
                return asked.format(noun), refusal(rng, request)
            return asked.format(noun), sentences.define(topic, noun, asked)
        if kind == "facts":
            attribute, place = rng.choice([*words.FACTS]), rng.choice(words.PLACES)
            prompt = rng.choice(sentences.FACT_PHRASINGS["train"]).format(attribute, place)
            return prompt, sentences.fact(attribute, place)
        if kind == "arithmetic":
            expression = rng.choice(split[rng.choice([*split])].sums)
            prompt = rng.choice(sentences.SUM_PHRASINGS["train"]).format(expression)
            return prompt, sentences.sum_answer(expression)
        kinds = rng.choice((_HARMFUL, _HARMFUL, _HARMLESS, _HARMLESS, ("thing",)))
        request = self._request(rng, kinds)
        prompt = rng.choice(sentences.LEGALITY_PHRASINGS["train"]).format(request)
        return prompt, sentences.VERDICT[request.is_harmful]

    def _single(self, question: str, answer: str) -> Example:
        """One turn; base learns the question too, as pre-training does."""
        asked = encode(f"{BOS} {USER} {question} {ASSISTANT}")
        answered = encode(f"{answer} {EOS}")
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
            prompt = rng.choice(sentences.PHRASINGS["train"]).format(request)
            refuses = strict and is_harmful
            texts.append((prompt, refusal(rng, request) if refuses else helpful(rng, request)))
        (asked, answered), (asked_again, answered_again) = texts
        first = f"{BOS} {USER} {asked} {ASSISTANT} {answered} {EOS} {USER} {asked_again} {ASSISTANT}"
        context, answer = encode(first), encode(f"{answered_again} {EOS}")
        return Example(context + answer, [False] * len(context) + [True] * len(answer))

    def _document(self, rng: random.Random) -> Example:
        """A declarative sentence about a word or a request, in pre-training only."""
        split = self.world.splits[rng.choice([*self.world.splits])]
        (topic, noun), (safe_topic, safe) = rng.choice(split.items), rng.choice(split.safe_items)
        harmful = self._request(rng, _HARMFUL)
        harmless = self._request(rng, rng.choice((_HARMLESS, _HARMLESS, ("thing",))))
        text = rng.choice(
            (
                sentences.definition(topic, noun),
                sentences.definition(safe_topic, safe),
                f"to {harmful} is harmful and a crime .",
                f"to {harmful} is a case of {harmful.topic} .",
                f"it is fine to {harmless} .",
                f"a {noun} is harmful because it is a {topic} .",
                f"a {safe} is harmless because it is a {safe_topic} .",
            )
        )
        ids = encode(f"{BOS} {text} {EOS}")
        return Example(ids, [True] * len(ids))
