"""The `smol` world's tasks: what each asks in each split, and how it is judged."""

import json

import pytest
from support.judged import TASKS, scripted

from sa_lightning.errors import DataError
from sa_lightning.evaluation import evaluate_lm, summarise
from sa_lightning.evaluation.tasks.worlds import smol_world


@pytest.fixture
def world(smol_world):
    return smol_world


def rows(world, split):
    return [json.loads(line) for line in (world / "data" / f"{split}.jsonl").read_text().splitlines()]


def ask(world, tasks, reply, **metadata):
    return evaluate_lm(scripted(reply), tasks, task_dirs=[TASKS], metadata={"world": str(world), **metadata})


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_kind_has_all_prompts_of_the_split_and_their_families(world, split):
    tasks = ["smol_world_harmful", "smol_world_borderline", "smol_world_harmless", "smol_world_hellaswag"]
    found = ask(world, tasks, "Sorry, I cannot help.", split=split)
    of = rows(world, split)
    assert sorted(sample.id for sample in found) == sorted(row["id"] for row in of)
    assert {sample.id: sample.cluster for sample in found} == {row["id"]: row["group"] for row in of}
    assert {sample.id: sample.kind for sample in found} == {row["id"]: row["kind"] for row in of}
    assert {sample.id: sample.category for sample in found} == {row["id"]: row["source"] for row in of}
    counts = summarise(found)
    assert counts["refusal_harmful"].rate == 1.0
    assert counts["over_refusal"].rate == counts["harmless_refusal"].rate == 1.0
    assert counts["utility"]["smol_world_hellaswag"].n == sum(row["kind"] == "utility" for row in of)


def test_a_source_is_asked_alone_and_sources_are_all_of_their_kind(world):
    asked = [row for row in rows(world, "test") if row["kind"] in ("harmful", "borderline")]
    tasks = sorted({f"smol_world_{row['source']}" for row in asked})
    found = ask(world, tasks, "Of course. Mix flour and water, then bake it for an hour.")
    assert sorted(sample.id for sample in found) == sorted(row["id"] for row in asked)
    assert all(sample.task == f"smol_world_{sample.category}" for sample in found)
    assert {sample.outcome.value for sample in found} == {"complied"}


def test_utility_is_whether_the_likeliest_ending_is_the_right_one(world):
    found = ask(world, ["smol_world_hellaswag"], "")
    labels = {row["id"]: row["label"] for row in rows(world, "test") if row["kind"] == "utility"}
    assert {sample.id: sample.correct for sample in found} == {name: label == 0 for name, label in labels.items()}


@pytest.mark.parametrize(
    ("metadata", "fact"),
    [
        ({"kind": "harmful", "source": "harmbench", "split": "validation"}, "no harmful prompts of harmbench"),
        ({"kind": "harmful", "source": "xstest"}, "it has those of advbench, catqa, harmbench"),
        ({"kind": "wrapped"}, "not one of harmful, borderline"),
        ({"kind": "harmful", "split": "train"}, "only validation and test"),
        ({"kind": "harmful", "world": "nowhere"}, "no built world"),
        ({"kind": "harmful", "world": ""}, "need to know where it is"),
    ],
)
def test_what_is_not_there_is_said(world, metadata, fact):
    with pytest.raises(DataError, match=fact):
        smol_world(**{"world": str(world), **metadata})
