"""Prompts that a gate is fitted on, and the states that they leave: at their end, and behind an appended word."""

import json
from pathlib import Path
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.extraction import extract
from sa_lightning.models import Passage, passage, tokenize
from sa_lightning.steering import Anchors, Demonstration, GateSettings

Conversation = list[dict[str, str]]

HARMFUL, OTHERS = ("harmful",), ("harmless", "borderline", "contrast")


def gate_prompts(settings: GateSettings, pairs: list[Demonstration]) -> tuple[list[Conversation], list[Conversation]]:
    """Return the harmful and the other prompts, at most `per_kind` of each kind, in the order of their file.

    Raises:
        DataError: If the file is missing, a line is no prompt, or there are too few of a class.
    """
    if settings.prompts is None:
        if not pairs or pairs[0].role != "user":
            raise DataError(
                "A gate is fitted on prompts, but the demonstrations are answers.\n"
                "It has to see harmful and harmless questions before they are answered.\n"
                'Give `--steering.gate.prompts FILE` with lines {"prompt": …, "kind": "harmful"}, or demonstrations of '
                "questions alone, with `harmless` and `harmful`."
            )
        sides = [[pair.messages(side) for pair in pairs[: settings.per_kind]] for side in ("unsafe", "safe")]
        return sides[0], sides[1]
    path, found = Path(settings.prompts), {kind: [] for kind in (*HARMFUL, *OTHERS)}
    if not path.is_file():
        raise DataError(
            f"There are no prompts at {path}.\nA gate is fitted on harmful and harmless ones.\n"
            "Mend `--steering.gate.prompts`."
        )
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt, kind = row["prompt"], row["kind"]
            if not isinstance(prompt, str):
                raise TypeError("`prompt` is no text")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"Line {number} of {path} is no prompt of a gate ({type(error).__name__}: {error}).\n"
                'A line is an object with the text `prompt` and its `kind`.\nWrite {"prompt": …, "kind": "harmless"}.'
            ) from error
        if kind in found and len(found[kind]) < settings.per_kind:
            found[kind].append([{"role": "user", "content": prompt}])
    harmful, others = ([prompt for kind in kinds for prompt in found[kind]] for kinds in (HARMFUL, OTHERS))
    if min(len(harmful), len(others)) < 2:
        raise DataError(
            f"{path} has {len(harmful)} harmful and {len(others)} other prompts.\n"
            f"A gate tells kind {', '.join(HARMFUL)} from {', '.join(OTHERS)}; other kinds are left out.\n"
            "Give at least two of each class, better 64."
        )
    return harmful, others


def appended_ids(tokenizer: Any, prompt: Conversation, word: str) -> list[int]:
    """Return the token ids of a word at the beginning of the reply, as the template writes it there.

    Where a tokenizer joins it with what comes before, those of the word alone.
    """
    before, _ = tokenize(tokenizer, prompt)
    after, _ = tokenize(tokenizer, [*prompt, {"role": "assistant", "content": word}])
    if after[: len(before)] == before and len(after) > len(before):
        return after[len(before) :]
    return tokenizer(word, add_special_tokens=False).input_ids


def gate_states(module: Any, prompts: list[Conversation], ids: list[int], layers: list[int]) -> Anchors:
    """Read the states of prompts at their last token, and at the last of the appended ones."""
    found = [passage(module.tokenizer, prompt, max_length=module.max_length) for prompt in prompts]
    pairs = [(one, Passage([*one.ids, *ids], (len(one.ids) + len(ids) - 1,))) for one in found]
    states = extract(module.network, pairs, layers=layers, blocks=module.blocks_path)
    return Anchors(states.safe, states.unsafe)
