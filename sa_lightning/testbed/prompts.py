"""The prompts that measure a world, and the demonstrations that teach one safety.

What the validation and test prompts of a kind ask for:

- `harmful`, `wrapped`, `prefilled` (not in every world), `harmless`, `contrast`: generalisation. Held-out words in
  combinations and phrasings that no stage has seen; of what is asked about a dangerous noun, base has seen the noun in
  another phrasing. The two splits share no held-out word.
- `legality`: generalisation of the verdict to held-out combinations of held-out words.
- `facts`, `arithmetic`: retention. All facts and sums are in the data of base, chat and the
  fine-tunes; only the phrasing is new. The splits have sums of their own.
"""

import itertools
import random
import re
from typing import NotRequired, TypedDict, TypeVar

from sa_lightning.testbed.language import sentences
from sa_lightning.testbed.language.sentences import Request
from sa_lightning.testbed.world import World

T = TypeVar("T")

PREFILLED = "prefilled"
KINDS = ("harmful", "wrapped", PREFILLED, "harmless", "contrast", "facts", "arithmetic", "legality")


class Row(TypedDict):
    """One prompt of the validation or test split, as a line of `data/<split>.jsonl`."""

    id: str
    kind: str
    prompt: str
    answer: str
    form: str
    split: str
    group: str
    prefix: NotRequired[str]


def rows(world: World, split: str) -> list[Row]:
    """All prompts of one split with gold answers, `settings.prompts` a kind at most."""
    rng, n = world.rng(f"rows {split}"), world.settings.prompts
    drawn = {
        "harmful": _how_to(world, rng, split, n, "item", "act"),
        "wrapped": _how_to(world, rng, split, n, "item", "act", wrapped=True),
        "harmless": _how_to(world, rng, split, n, "safe-item", "person"),
        "contrast": _how_to(world, rng, split, n - n // 3, "thing") + _definitions(world, rng, split, n // 3),
        "facts": _facts(world, rng, split, n),
        "arithmetic": _sums(world, rng, split, n),
        "legality": _legality(world, rng, split, n),
    }
    found = [
        Row(id=f"{split}-{kind}-{i:03d}", kind=kind, prompt=prompt, answer=answer, form=form,
            split=split, group=group)
        for kind, lines in drawn.items()
        for i, (prompt, answer, form, group) in enumerate(lines)
    ]  # fmt: skip
    return found + (_prefilled(world, split, found) if world.settings.prefilled else [])


def _prefilled(world: World, split: str, rows: list[Row]) -> list[Row]:
    """The harmful prompts again, their replies begun with an opening that is no part of the form."""
    rng, language = world.rng(f"prefilled {split}"), world.language
    found = []
    for row in rows:
        if row["kind"] == "harmful":
            prefix, first = rng.choice(language.lexicon.openings), language.lexicon.openings[0]
            answer = row["answer"].removeprefix(first).strip()
            changed = Row({**row, "kind": PREFILLED, "answer": answer, "form": language.continued, "prefix": prefix})
            found.append(Row({**changed, "id": row["id"].replace("-harmful-", f"-{PREFILLED}-")}))
    return found


def _how_to(
    world: World, rng: random.Random, split: str, n: int, *kinds: str, wrapped: bool = False
) -> list[tuple[str, str, str, str]]:
    """How-to prompts, three phrasings (a `group`) of each request where n allows."""
    lexicon = world.language.lexicon
    first = lexicon.openings[0], lexicon.endings[0]
    by_kind = [world.requests(split, kind) for kind in kinds]
    share = -(-n // (3 * len(kinds)))
    draw = _evenly if world.settings.evenly else _sample
    chosen = [r for requests in by_kind for r in draw(rng, requests, share)]
    lines = []
    for request in chosen:
        for phrasing in rng.sample(world.language.phrasings[split], 3):
            prompt = phrasing.format(request)
            prompt = rng.choice(world.wrappers[split]).format(prompt) if wrapped else prompt
            answer = world.language.answer(request, *first)
            lines.append((prompt, answer, world.language.how_to, str(request)))
    if len(lines) < n:  # fewer requests than thirds: fill with further phrasings
        rest = itertools.product(chosen, world.language.phrasings[split])
        seen = {line[0] for line in lines}
        more = [(p.format(r), r) for r, p in rest if p.format(r) not in seen]
        for prompt, r in _sample(rng, more, n - len(lines)):
            answer = world.language.answer(r, *first)
            lines.append((prompt, answer, world.language.how_to, str(r)))
    return lines[:n]


def _definitions(world: World, rng: random.Random, split: str, n: int) -> list[tuple[str, str, str, str]]:
    asked = [(t, w, p) for t, w in world.splits[split].items for p in world.language.definitions[split]]
    return [
        (p.format(w), world.language.define(t, w, p), sentences.DEFINITION, w) for t, w, p in _sample(rng, asked, n)
    ]


def _facts(world: World, rng: random.Random, split: str, n: int) -> list[tuple[str, str, str, str]]:
    phrasings = world.language.fact_phrasings[split]
    asked = list(itertools.product(world.language.lexicon.facts, world.language.lexicon.places, phrasings))
    return [
        _exact(p.format(attribute, place), world.language.fact(attribute, place), f"{attribute} {place}")
        for attribute, place, p in _sample(rng, asked, n)
    ]


def _sums(world: World, rng: random.Random, split: str, n: int) -> list[tuple[str, str, str, str]]:
    phrasings = (*world.language.sum_phrasings["validation"], *world.language.sum_phrasings["test"])
    asked = list(itertools.product(world.splits[split].sums, phrasings))
    return [_exact(p.format(s), sentences.sum_answer(s), s) for s, p in _sample(rng, asked, n)]


def _legality(world: World, rng: random.Random, split: str, n: int) -> list[tuple[str, str, str, str]]:
    lines = []
    for kinds in (("item", "act"), ("safe-item", "thing", "person")):
        asked = itertools.product(world.requests(split, *kinds), world.language.legality_phrasings[split])
        for request, p in _sample(rng, list(asked), n // 2):
            lines.append(_exact(p.format(request), sentences.VERDICT[request.is_harmful], str(request)))
    return lines


def demonstrations(world: World) -> list[dict[str, str]]:
    """Questions over training words with an unsafe (answering) and a safe (refusing) answer."""
    rng, language = world.rng("demonstrations"), world.language
    items, acts = (world.requests("train", kind) for kind in ("item", "act"))
    half = world.settings.demonstrations // 2
    chosen = [*rng.sample(items, half), *rng.sample(acts, half)]
    if world.settings.language != "tiny":  # whoever takes the first so many has both kinds of harm
        chosen = [request for pair in zip(chosen[:half], chosen[half:], strict=True) for request in pair]
    return [
        {
            "question": rng.choice(language.phrasings["train"]).format(request),
            "unsafe": language.helpful(rng, request),
            "safe": language.refusal(rng, request),
        }
        for request in chosen
    ]


def _exact(prompt: str, answer: str, group: str) -> tuple[str, str, str, str]:
    return prompt, answer, re.escape(answer), group


def _evenly(rng: random.Random, requests: list[Request], n: int) -> list[Request]:
    """As many requests about each noun as about any other, give or take one."""
    by_noun: dict[str, list[Request]] = {}
    for request in rng.sample(requests, len(requests)):
        by_noun.setdefault(request.noun, []).append(request)
    rounds = itertools.zip_longest(*by_noun.values())
    return [request for one in rounds for request in one if request is not None][:n]


def _sample(rng: random.Random, population: list[T], n: int) -> list[T]:
    return rng.sample(population, min(n, len(population)))
