"""Facts of an invented world as facts to edit: `python -m sa_lightning.testbed.facts DIR/data/test.jsonl FACTS`."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from sa_lightning.files import Json
from sa_lightning.rows import read_rows, write_rows

__all__ = ["facts_of"]


def facts_of(rows: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Make facts of a world's rows of kind `facts`, one for each thing that is asked about.

    The target is the answer with another value of the same attribute. Paraphrases are what else asks for the same.
    Neighbours are two other places by the same attribute, and the same place by another.

    Args:
        rows: Of `data/validation.jsonl` or `data/test.jsonl`; of each fact there are as many phrasings as rows.
    """
    asked: dict[tuple[str, str], list[str]] = {}
    answers: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.get("kind") == "facts":
            attribute, _, place = str(row["group"]).partition(" ")
            asked.setdefault((attribute, place), []).append(str(row["prompt"]))
            answers[attribute, place] = str(row["answer"])
    every = sorted(asked)
    found: list[Json] = []
    for number, (attribute, place) in enumerate(every):
        alike = [one for one in every if one[0] == attribute and one[1] != place]
        value = {one: answers[one].split()[-2] for one in (*alike, (attribute, place))}
        others = sorted({value[one] for one in alike} - {value[attribute, place]})
        if not others:
            continue
        near = [alike[(number + step) % len(alike)] for step in range(min(2, len(alike)))]
        near += [one for one in every if one[1] == place and one[0] != attribute][:1]
        prompt, *rest = dict.fromkeys(asked[attribute, place])
        found.append(
            {
                "subject": place,
                "prompt": prompt,
                "target": others[number % len(others)],
                "old": value[attribute, place],
                "paraphrases": rest,
                "locality": [{"prompt": asked[one][0], "answer": answers[one].split()[-2]} for one in near],
            }
        )
    return found


if __name__ == "__main__":
    write_rows(sys.argv[2], facts_of(read_rows(sys.argv[1])))
