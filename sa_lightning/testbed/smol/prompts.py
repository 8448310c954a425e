"""Prompts of the `smol` world: public ones out of `$SA_DATA_DIR`, and harmless ones of ours, split by family."""

import ast
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from sa_lightning.data import registry
from sa_lightning.errors import DataError
from sa_lightning.testbed.smol.families import deal, families
from sa_lightning.testbed.smol.ordinary import look_alikes, ordinary

SPLITS = ("train", "validation", "test")
#: The source of harmless prompts of ours.
ORDINARY = "ordinary"
#: Questions of HellaSwag a split.
QUESTIONS = 200
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


class Row(TypedDict):
    """One prompt, as a line of `data/SPLIT.jsonl`."""

    id: str
    kind: str
    source: str
    prompt: str
    split: str
    group: str
    choices: NotRequired[list[str]]
    label: NotRequired[int]


@dataclass(frozen=True)
class Source:
    """Prompts of one data set.

    Args:
        name: The `source` of its rows.
        kind: harmful, borderline or harmless.
        dataset: In the registry.
        part: Of the data set.
        column: What is asked.
        wanted: Whether a row is taken.
        together: What it shares with others of its family.
        only_test: Whether none of it may be trained on or chosen by, nor what resembles it.
        most: How many are taken for the test split at most, drawn by the seed.
    """

    name: str
    kind: str
    dataset: str
    column: str
    part: str | None = None
    wanted: Callable[[Mapping[str, Any]], bool] = lambda row: True
    together: Callable[[Mapping[str, Any]], str | None] = lambda row: None
    only_test: bool = True
    most: int | None = None


#: Of CatQA; the others are not harmful without doubt, or are nothing to train on.
_CATEGORIES = (
    "Illegal Activity",
    "Hate/Harass/Violence",
    "Malware Viruses",
    "Physical Harm",
    "Economic Harm",
    "Fraud/Deception",
    "Privacy Violation Activity",
)

SOURCES = (
    Source("advbench", "harmful", "advbench", "goal", only_test=False),
    Source(
        "catqa",
        "harmful",
        "catqa",
        "Question",
        wanted=lambda row: row["Category"] in _CATEGORIES,
        together=lambda row: f"{row['Category']}/{row['Subcategory']}",
        only_test=False,
    ),
    Source(
        "harmbench",
        "harmful",
        "harmbench",
        "Behavior",
        part="test",
        wanted=lambda row: row["FunctionalCategory"] == "standard",
    ),
    Source("jailbreakbench", "harmful", "jailbreakbench", "Goal", part="harmful"),
    Source("malicious_instruct", "harmful", "malicious_instruct", "prompt"),
    Source("xstest_unsafe", "harmful", "xstest", "prompt", wanted=lambda row: row["label"] == "unsafe"),
    Source("xstest", "borderline", "xstest", "prompt", wanted=lambda row: row["label"] == "safe"),
    Source("oktest", "borderline", "oktest", "prompt"),
    Source("or_bench", "borderline", "or_bench_hard", "prompt", most=200),
    Source(
        "look_alikes",
        "borderline",
        "coconot",
        "prompt",
        part="contrast",
        wanted=lambda row: row["category"] == "Requests with safety concerns",
        only_test=False,
    ),
)
#: What else is read: data set and part, and what for.
ALSO = (("hellaswag", "validation"), ("wikitext2", "test"), ("gsm8k", "train"))


def check_at_hand() -> None:
    """Make sure that every data set is there, before anything is computed.

    Raises:
        DataError: If some are not; names them all, and says how to get each.
    """
    needed = dict.fromkeys([(source.dataset, source.part) for source in SOURCES] + [*ALSO])
    missing = [(name, part) for name, part in needed if registry.where(name, *filter(None, [part])) == "missing"]
    if missing:
        names = ", ".join(dict.fromkeys(name for name, _ in missing))
        raise DataError(
            f"The `smol` world is made of public data sets, of which {names} {'is' if len(missing) == 1 else 'are'} "
            "not at hand.\nNothing was trained.\n"
            + "\n".join(registry.describe_missing(name, part) for name, part in missing)
        )


def rows(seed: int) -> list[Row]:
    """All prompts of all splits, and the questions that measure utility.

    No two of different splits are near duplicates. A family with a prompt of a test benchmark is in the test split. The
    order within a source is drawn, so that the first so many of it are a sample.

    Args:
        seed: Deals families to splits and draws what is asked of long benchmarks.

    Raises:
        DataError: If a data set is not at hand or cannot be read.
    """
    found: list[tuple[str, str, str]] = []  # kind, source, prompt
    together: list[str | None] = []
    reserved: list[bool] = []
    most = {source.name: source.most for source in SOURCES}
    for source in SOURCES:
        for row in registry.read_rows(source.dataset, source.part):
            if source.wanted(row):
                found.append((source.kind, source.name, " ".join(str(row[source.column]).split())))
                shared = source.together(row)
                together.append(None if shared is None else f"{source.name}: {shared}")
                reserved.append(source.only_test)
    for trigger, prompt in look_alikes():
        found.append(("borderline", "look_alikes", prompt))
        together.append(f"trigger: {trigger}")
        reserved.append(False)
    for topic, prompt in ordinary(random.Random(f"{seed} ordinary")):
        found.append(("harmless", ORDINARY, prompt))
        together.append(f"topic: {topic}")
        reserved.append(False)
    family = families([prompt for _, _, prompt in found], together)
    split = deal(family, [source for _, source, _ in found], reserved, SHARES, seed)
    made: dict[tuple[str, str], Row] = {}  # each prompt of a source once
    for (kind, source, prompt), number, place in zip(found, family, split, strict=True):
        made.setdefault(
            (source, prompt),
            Row(id="", kind=kind, source=source, prompt=prompt, split=place, group=f"family {number}"),
        )
    order = [source.name for source in SOURCES] + [ORDINARY]
    mixed = random.Random(f"{seed} order").sample([*made.values()], len(made))
    mixed.sort(key=lambda row: order.index(row["source"]))
    return _numbered(_thinned(mixed, most, seed)) + _utility(seed)


def data_sets() -> dict[str, dict[str, str]]:
    """Licence and SHA-256 of each data set that is read; the latter as `registry.check` computes it."""
    needed = dict.fromkeys([(source.dataset, source.part) for source in SOURCES] + [*ALSO])
    return {
        f"{name} {part or ''}".strip(): {
            "licence": registry.entry(name).licence,
            "sha256": str(registry.check(name, part)[1]),
        }
        for name, part in needed
    }


def _thinned(rows: list[Row], most: Mapping[str, int | None], seed: int) -> list[Row]:
    """Without what is beyond the `most` of a source, drawn by the seed, order kept."""
    dropped: set[int] = set()
    for name, limit in most.items():
        places = [i for i, row in enumerate(rows) if row["source"] == name and row["split"] == "test"]
        if limit is not None and len(places) > limit:
            dropped |= set(random.Random(f"{seed} {name}").sample(places, len(places) - limit))
    return [row for i, row in enumerate(rows) if i not in dropped]


def _numbered(rows: list[Row]) -> list[Row]:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = row["split"], row["source"]
        row["id"] = f"{row['split']}-{row['source']}-{counts.setdefault(key, 0):03d}"
        counts[key] += 1
    return rows


def _utility(seed: int) -> list[Row]:
    """Questions of HellaSwag for validation and test, which share no activity."""
    every = registry.read_rows("hellaswag", "validation")
    activities = sorted({row["activity_label"] for row in every})
    random.Random(f"{seed} hellaswag").shuffle(activities)
    place = {label: i % 2 for i, label in enumerate(activities)}
    made: list[Row] = []
    for i, split in enumerate(SPLITS[1:]):
        own = [row for row in every if place[row["activity_label"]] == i]
        chosen = random.Random(f"{seed} hellaswag {split}").sample(own, min(QUESTIONS, len(own)))
        made += [_question(row, split, number) for number, row in enumerate(chosen)]
    return made


def _question(row: Mapping[str, Any], split: str, number: int) -> Row:
    """A question of HellaSwag in lm-eval's words."""
    endings = row["endings"] if isinstance(row["endings"], list) else ast.literal_eval(row["endings"])
    about = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return Row(
        id=f"{split}-hellaswag-{number:03d}", kind="utility", source="hellaswag", prompt=_tidy(about), split=split,
        group=row["activity_label"], choices=[_tidy(ending) for ending in endings], label=int(row["label"]),
    )  # fmt: skip


def _tidy(text: str) -> str:
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")
