"""Prompts that gates and rules are fitted on, and the states that they leave: at the end, behind a word, on average."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.fitting.extraction import extract_passages
from sa_lightning.models import Passage, Target, passage, tokenize
from sa_lightning.resources import shipped
from sa_lightning.rows import KNOWN_PROMPT, PROMPT, Message, Prompt, conversation, read_rows
from sa_lightning.steering import Anchors, Demonstration, GateSettings
from sa_lightning.steering.directions.prompted import BORDERLINE, HARMFUL, HARMLESS


@dataclass(frozen=True)
class KnownPrompt:
    """A prompt of a kind.

    Attributes:
        text: What the user says, or the turns up to that.
        held: Whether it is held out where a threshold is set. Variants of one another, which have the same `group`, are
            so together, of whatever kinds they are.
    """

    text: Prompt
    held: bool


Prompts = dict[str, list[KnownPrompt]]
#: Kinds that prompts may lack though settings have them.
KINDS = (*HARMFUL, *HARMLESS, *BORDERLINE, "utility")


def read_prompts(path: str | Path) -> Prompts:
    """Return the prompts of a file, kind by kind, in their order, with what is held out (`dealt`).

    Raises:
        DataError: If the file is missing, or a row is no prompt.
    """
    if not os.path.isfile(path):
        raise DataError(
            f"There are no prompts at {path}.\nA gate is fitted on harmful and harmless ones.\n"
            "Mend `prompts` of the gate or the rule."
        )
    rows = [row for _, row in KNOWN_PROMPT.of(path)]
    return dealt([(row["kind"], row["prompt"], _group(row)) for row in rows])


def _group(row: Json) -> str | None:
    return None if row.get("group") is None else str(row["group"])


def harmless_prompts(path: str | None, known: Sequence[Prompt]) -> list[Prompt]:
    """Return harmless prompts: of a file, where it has kinds those of `harmless`; else the known ones, else our own.

    Raises:
        DataError: If the file is missing, or has no harmless prompts.
    """
    if path is None:
        own = read_rows(shipped("configs") / "quickstart" / "fit.jsonl")
        return list(known) or [row["prompt"] for row in own if row["kind"] == "harmless"]
    if not os.path.isfile(path):
        raise DataError(
            f"There are no prompts at {path}.\nA strength is found on the replies to harmless ones.\n"
            "Mend `--steering.ordinary`, or leave it out."
        )
    rows = [row for _, row in PROMPT.of(path)]
    found = [row["prompt"] for row in rows if row.get("kind", "harmless") in HARMLESS]
    if not found:
        raise DataError(
            f"{path} has no harmless prompts among {len(rows)} rows.\n"
            "A strength is found on the replies to harmless ones.\n"
            'Write lines {"prompt": …}, or {"prompt": …, "kind": "harmless"}.'
        )
    return found


def questions(pairs: list[Demonstration]) -> Prompts:
    """Return the questions of demonstrations that have no answers; those of a pair are held out together.

    Raises:
        DataError: If they have.
    """
    if not pairs or pairs[0].role != "user":
        raise DataError(
            "A gate, or a rule, is fitted on prompts, but the demonstrations are answers.\n"
            "It has to see harmful and harmless questions before they are answered.\n"
            'Give `--steering.gate.prompts FILE` with lines {"prompt": …, "kind": "harmful"}, or demonstrations of '
            "questions alone, with `harmless` and `harmful`."
        )
    sides = [("harmful", "unsafe"), ("harmless", "safe")]
    return dealt([(kind, getattr(pair, side), str(n)) for n, pair in enumerate(pairs) for kind, side in sides])


def dealt(rows: Sequence[tuple[str, Prompt, str | None]]) -> Prompts:
    """Hold out every second prompt of each kind, variants of one another together, of whatever kinds they are.

    Variants are prompts of one group, the same text, and what these join. They stand where they first stood.

    Args:
        rows: Kind, text and group, if it has one, of each prompt.
    """
    parents: dict[str, str] = {}

    def first(name: str) -> str:
        while parents.setdefault(name, name) != name:
            name = parents[name]
        return name

    for _, text, group in rows:
        if group is not None:
            parents[first(f"text {text}")] = first(f"group {group}")
    found, held = Prompts(), dict[str, bool]()
    seen: dict[str, set[str]] = {}
    for kind, text, _ in rows:
        variants, known = first(f"text {text}"), seen.setdefault(kind, set())
        held.setdefault(variants, bool(len(known) % 2))
        known.add(variants)
        found.setdefault(kind, []).append(KnownPrompt(text, held[variants]))
    return found


def of_kinds(prompts: Prompts, kinds: Iterable[str], per_kind: int) -> list[KnownPrompt]:
    """Return the first prompts of each of some kinds, so many of each at most."""
    return [prompt for kind in kinds for prompt in prompts.get(kind, [])[:per_kind]]


def gate_prompts(settings: GateSettings, prompts: Prompts) -> dict[str, list[KnownPrompt]]:
    """Return the positive prompts, the negative ones, and those that are exempt, if any are.

    Where gates are joined, positive ones are kind by kind: `positive harmful`, `positive wrapped`, and `negative`.

    Raises:
        DataError: If there are too few of a class.
        SettingError: If those that are held out cannot show the `recall`.
    """
    sides = settings.kinds()
    for name, kinds in sides.items():
        _check_kinds(f"gate.{name}", kinds, prompts)
    if settings.join is not None:
        sides = {**{f"positive {kind}": (kind,) for kind in settings.positive}, "negative": settings.negative}
    found = {name: of_kinds(prompts, kinds, settings.per_kind) for name, kinds in sides.items() if kinds}
    if any(len(side) < 2 for side in found.values()):
        counts = ", ".join(f"{len(side)} of {' and '.join(sides[name])}" for name, side in found.items())
        raise DataError(
            f"There are prompts of the kinds {', '.join(prompts) or 'none'}: {counts}.\n"
            "A gate tells the first of these from the others, and each class needs two prompts at least, better 64.\n"
            "Give more, or say which kinds are `positive`, and which `negative`."
        )
    held = [[prompt.held for prompt in side] for side in found.values()]
    for together in [held] if settings.join is None else [(side, held[-1]) for side in held[:-1]]:
        settings.check_held(*together)
    return found


def counts(settings: GateSettings, prompts: Prompts) -> dict[str, dict[str, int]]:
    """Return how many prompts of each kind a gate is fitted on, for the artifact; kinds without any are left out."""
    return {
        name: {kind: len(found) for kind in kinds if (found := of_kinds(prompts, [kind], settings.per_kind))}
        for name, kinds in settings.kinds().items()
        if kinds
    }


def _check_kinds(name: str, kinds: Iterable[str], prompts: Prompts) -> None:
    """Refuse a kind that neither the prompts have nor anyone knows: a slip would change what is told apart."""
    known = [*prompts, *KINDS]
    for kind in kinds:
        if kind not in known:
            near = get_close_matches(kind, known, 1)
            raise DataError(
                f"`{name}` has the kind {kind!r}, but there are prompts of the kinds "
                f"{', '.join(f'{own} ({len(found)})' for own, found in prompts.items())}.\n"
                "Without these the gate would tell something else apart.\n"
                f"{f'Is {near[0]!r} meant? ' if near else ''}Mend it, or give such prompts."
            )


def appended_ids(tokenizer: Any, prompt: list[Message], word: str) -> list[int]:
    """Return the token ids of a word at the beginning of the reply, as the template writes it there.

    Where a tokenizer joins it with what comes before, those of the word alone.
    """
    before, _ = tokenize(tokenizer, prompt)
    after, _ = tokenize(tokenizer, [*prompt, {"role": "assistant", "content": word}])
    if after[: len(before)] == before and len(after) > len(before):
        return after[len(before) :]
    return tokenizer(word, add_special_tokens=False).input_ids


class PromptStates:
    """States of prompts, under the weights as they are, each read once.

    Args:
        target: The model with its tokenizer.
        layers: Which layers to read.
    """

    def __init__(self, target: Target, layers: list[int]) -> None:
        self.target, self.layers = target, layers
        self._known: dict[tuple[Prompt, tuple[int, ...], bool], torch.Tensor] = {}

    def __call__(self, prompts: list[KnownPrompt], ids: list[int] | None = None, mean: bool = False) -> Anchors:
        """Read the states at the last token of each prompt, at the last of appended ones, and the mean over them."""
        held = torch.tensor([prompt.held for prompt in prompts])
        appended = self._read(prompts, ids, False) if ids else None
        return Anchors(self._read(prompts, [], False), held, appended, self._read(prompts, [], True) if mean else None)

    def of(self, kinds: Mapping[str, list[KnownPrompt]]) -> dict[str, torch.Tensor]:
        """Read the states at the last token of prompts, kind by kind."""
        return {name: self._read(prompts, [], False) for name, prompts in kinds.items() if prompts}

    def _read(self, prompts: list[KnownPrompt], ids: list[int], mean: bool) -> torch.Tensor:
        target = self.target
        new = [p for p in dict.fromkeys(prompt.text for prompt in prompts) if (p, tuple(ids), mean) not in self._known]
        if new:
            found = []
            for text in new:
                one = passage(target.tokenizer, conversation(text), max_length=target.max_length)
                whole = [*one.ids, *ids]
                found.append(Passage(whole, tuple(range(len(whole))) if mean else (len(whole) - 1,)))
            rows = extract_passages(target.network, found, layers=self.layers, blocks=target.blocks_path)
            self._known |= {(text, tuple(ids), mean): row for text, row in zip(new, rows, strict=True)}
        return torch.stack([self._known[prompt.text, tuple(ids), mean] for prompt in prompts])
