"""Prompts with responses, as tokens: what the scores of weights are computed on, and damage is measured on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from sa_lightning.errors import DataError
from sa_lightning.files import Json
from sa_lightning.models import render
from sa_lightning.models.chat import Message
from sa_lightning.models.stored import as_stored
from sa_lightning.rows import ANSWERED, iter_rows, place
from sa_lightning.steering import read_demonstrations
from sa_lightning.surgery import (
    AnswerShift,
    EditPlan,
    Example,
    ModelWeights,
    Progress,
    Sources,
    Weights,
    find_layer_scales,
)

MEASURED = 64  # examples of each side on which a KL budget is measured


def spend_budget(
    plan: EditPlan,
    sources: Sources,
    loaded: Callable[[], tuple[Any, PreTrainedTokenizerBase]],
    progress: Progress | None = None,
) -> None:
    """Where the plan has a `kl_budget` that is not spent yet, find its `layer_scales` on the target, loaded then.

    On 64 of the unsafe answers of `sources.prompts` and 64 of the harmless ones of `sources.kl_prompts`, taken at even
    distances from the files, which may be sorted; the model is given back bit for bit.
    """
    budget = plan.settings.kl_budget
    if budget is None or plan.settings.layer_scales is not None:
        return
    assert sources.prompts is not None, "as `Sources.check` has it"
    assert sources.kl_prompts is not None
    model, tokenizer = loaded()
    harmless = _spread(read_examples(sources.kl_prompts, tokenizer, kind="harmless"))
    shift = AnswerShift(model, harmless, _spread(read_examples(sources.prompts, tokenizer)))
    scales, plan.search = find_layer_scales(plan, weights_of(model, plan.target), shift, budget, progress)
    plan.settings = plan.scaled(scales).settings


def weights_of(model: Any, target: Weights) -> ModelWeights:
    """A model's weights under the names that its checkpoint has on disk."""
    return ModelWeights(model, tensors=as_stored(model, (*target.names, *target.aliases)))


def _spread(examples: list[Example]) -> list[Example]:
    """So many of them as are measured, at even distances."""
    count = min(MEASURED, len(examples))
    return [examples[index * len(examples) // count] for index in range(count)]


def read_examples(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, limit: int | None = None, kind: str | None = None
) -> list[Example]:
    """Read prompts and responses, rendered with the tokenizer's chat template.

    Args:
        path: JSONL file with rows {"prompt", "response"} (or "answer"), or demonstrations, whose unsafe answers are
            taken.
        tokenizer: From `load_tokenizer`.
        limit: Read only the first so many.
        kind: Of rows that have a `kind`, take only those of this one.

    Raises:
        DataError: If the file is missing, empty, or has a row that is neither, or none of the kind.
    """
    return [_example(messages, tokenizer) for messages in read_conversations(path, limit, kind)]


def read_conversations(
    path: str | Path, limit: int | None = None, kind: str | None = None, side: Literal["safe", "unsafe"] = "unsafe"
) -> list[list[Message]]:
    """Read what `read_examples` reads, as messages, of which the last is the response.

    Args:
        path: As there.
        limit: As there.
        kind: As there.
        side: Which answer of demonstrations is the response.

    Raises:
        DataError: As there.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(
            f"{path} does not exist.\nIt should hold prompts and responses, one JSON object a line.\n"
            "Check `surgery.prompts`, `surgery.kl_prompts`, or `--data`."
        )
    rows = list(iter_rows(path))
    if rows and all(isinstance(row, dict) and ("response" in row or "answer" in row) for _, row in rows):
        taken = [(number, row) for number, row in rows if kind in (None, row.get("kind", kind))]
        if not taken:
            raise DataError(
                f"{path} has {len(rows)} rows, and none of the `kind` {kind}.\n"
                "Rows of another kind are left out.\nGive some, or rows without a `kind`."
            )
        return [_pair(ANSWERED.checked(row, place(path, number))) for number, row in taken[:limit]]
    pairs, _ = read_demonstrations(path, limit=limit)
    if kind is not None:
        raise DataError(
            f"{path} holds demonstrations, whose questions are harmful, and {kind} ones are needed.\n"
            "Damage is measured on answers that are to stay as they are.\n"
            "Give rows with a `prompt` and a `response`: `surgery.kl_prompts FILE`."
        )
    if any(pair.role != "assistant" for pair in pairs):
        raise DataError(
            f"{path} holds questions without answers.\n"
            "The loss is taken on the response given the prompt.\n"
            "Give rows with a `response`, or with a `safe` and an `unsafe` answer."
        )
    return [pair.messages(side) for pair in pairs]


def _pair(row: Json) -> list[Message]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]


def _example(messages: Any, tokenizer: Any) -> Example:
    whole = tokenizer(render(tokenizer, messages), add_special_tokens=False, verbose=False).input_ids
    asked = tokenizer(render(tokenizer, messages[:-1]), add_special_tokens=False, verbose=False).input_ids
    # A tokenizer may join the end of the prompt with the start of the response: the prompt ends where they part.
    same = next((i for i, (a, b) in enumerate(zip(whole, asked, strict=False)) if a != b), len(asked))
    return Example(whole, min(same, len(whole) - 1))
