"""Tasks of lm-eval's own kind, over rows of our own, and functions that their files name."""

import random

import yaml

from sa_lightning.errors import DataError
from sa_lightning.evaluation import Outcome
from support import json_lines
from support.models import WORDS

ALL = ["tiny_world_harmful", "tiny_world_contrast", "tiny_world_facts"]


JUDGED = {
    "output_type": "generate_until",
    "doc_to_text": "prompt",
    "doc_to_target": "",
    "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 12},
    "metric_list": [{"metric": name, "aggregation": "mean"} for name in ("complied", "refused")],
}


CHOICE = {
    "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "gold", "doc_to_choice": ["yes", "no"],
    "metric_list": [{"metric": "acc"}],
}  # fmt: skip


def write_task(directory, name, rows, **settings):
    """A task of lm-eval's own kind, over rows of our own."""
    json_lines.write(directory / f"{name}.jsonl", rows)
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


def write_bakery(root, n):
    """A tag `bakery` of a judged task with n prompts, one of choices, and one whose data are nowhere."""
    draw = random.Random(0)
    rows = [
        {
            "id": f"d{i}", "prompt": " ".join(draw.choices(WORDS, k=draw.randint(2, 30))), "attack": "direct",
            "kind": ("harmful", "borderline")[i % 2], "category": f"c{i % 3}", "gold": i % 2,
        }
        for i in range(n)
    ]  # fmt: skip
    json_lines.write(root / "rows.jsonl", rows)
    data = {"data_files": {"test": str(root / "rows.jsonl")}, "cache_dir": str(root / "cache")}
    common = {"tag": "bakery", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
    choice = {**CHOICE, "doc_to_text": "prompt", "doc_to_choice": ["yes", "no , a cake"]}
    judge = "process_results: !function sa_lightning.evaluation.judges.registry.process_refusal\n"
    (root / "replies.yaml").write_text(yaml.safe_dump({"task": "bakery_replies", **common, **JUDGED}) + judge)
    (root / "choices.yaml").write_text(yaml.safe_dump({"task": "bakery_choices", **common, **choice}))
    (root / "gone.yaml").write_text(
        yaml.safe_dump({"task": "bakery_gone", "tag": "bakery", "test_split": "test", **choice})
        + "custom_dataset: !function support.lm_eval_tasks.nowhere\n"
    )
    return root


def fraction(doc, results):
    return {"acc": doc["share"]}


def unjudged(doc, results):
    return {outcome.value: float(outcome is Outcome.UNJUDGED) for outcome in Outcome}


unjudged.judge = "phrases.gcg"


def mute(doc, results):
    return {"acc": "well"}


def nowhere(**metadata):
    raise DataError("The data set gone is not at hand. Two ways to get it:\n  1. bake it\n  2. break it")


def damaged(**metadata):
    return {}[metadata["column"]]
