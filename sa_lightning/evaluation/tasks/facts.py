"""Facts that were written into a model, asked by lm-eval: are they still said, also in other words, and all else?"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sa_lightning.errors import DataError
from sa_lightning.evaluation.tasks.prompts import dataset_of
from sa_lightning.facts import Fact, begins_with, holds, read_facts
from sa_lightning.resources import config_path

if TYPE_CHECKING:
    from datasets import Dataset

MEASURES = ("efficacy", "paraphrase", "locality")


def facts(**metadata: Any) -> "dict[str, Dataset]":
    """Return the prompts by which one measure is taken, as `{"test": ...}`.

    Args:
        **metadata: `facts`, a file of facts, best as `sa edit --format known` has written it; `measure`: efficacy (the
            reply to the prompt begins with the target), paraphrase (that to the same in other words holds what is new
            in the target), or locality (that to a prompt about something else holds the answer that is written down).

    Raises:
        DataError: If no file is named, it cannot be read, or it has no prompts for the measure.
    """
    measure, file = metadata.get("measure"), metadata.get("facts")
    if measure not in MEASURES:
        raise DataError(f"`measure` is {measure!r}, not one of {', '.join(MEASURES)}.")
    if not file:
        raise DataError(
            "The tasks of facts need to know which facts.\n"
            "They are those that were written into the model.\n"
            "Name their file in the metadata: `--evaluation.metadata '{facts: FILE}'`."
        )
    place = config_path(str(file))
    documents: list[Mapping[str, object]] = [
        {
            "id": f"{number}-{part}",
            "prompt": prompt,
            "asked": prompt,
            "answer": answer,
            "measure": measure,
            "kind": "utility",
            "attack": "direct",
            "prefix": "",
            "category": measure,
            "cluster": f"fact-{number}",
        }
        for number, fact in enumerate(read_facts(place))
        for part, (prompt, answer) in enumerate(_asked(fact, str(measure)))
    ]
    if not documents:
        raise DataError(
            f"{place} has no prompts for {measure}.\nIts facts have no paraphrases, or no neighbours with an answer.\n"
            "Write them down, or leave the task out."
        )
    return {"test": dataset_of(place, documents)}


def process_facts(document: Mapping[str, Any], replies: list[str]) -> dict[str, float]:
    """Say whether a reply is right."""
    right = begins_with if document["measure"] == "efficacy" else holds
    return {"exact_match": float(right(replies[0], document["answer"]))}


def _asked(fact: Fact, measure: str) -> Iterator[tuple[str, str]]:
    if measure == "efficacy":
        yield fact.prompt, fact.target
    elif measure == "paraphrase":
        yield from ((prompt, fact.news) for prompt in fact.paraphrases)
    else:
        yield from ((near.prompt, near.answer) for near in fact.locality if near.answer)
