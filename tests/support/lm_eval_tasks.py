"""Tasks of lm-eval's own kind, over rows of our own, and functions that their files name."""

import json

import yaml

from sa_lightning.errors import DataError
from sa_lightning.evaluation import Outcome

ALL = ["tiny_world_harmful", "tiny_world_contrast", "tiny_world_facts"]


def write_task(directory, name, rows, **settings):
    """A task of lm-eval's own kind, over rows of our own."""
    (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(directory / f"{name}.jsonl")}, "cache_dir": str(directory / "cache"),
        },
        "test_split": "test",
        **settings,
    }  # fmt: skip
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(settings))


def fraction(doc, results):
    return {"acc": doc["share"]}


def unjudged(doc, results):
    return {outcome.value: float(outcome is Outcome.UNJUDGED) for outcome in Outcome}


def mute(doc, results):
    return {"acc": "well"}


def nowhere(**metadata):
    raise DataError("The data set gone is not at hand. Two ways to get it:\n  1. bake it\n  2. break it")


def damaged(**metadata):
    return {}[metadata["column"]]
