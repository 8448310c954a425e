"""Facts as rows, what counts as said, and the prompts by which lm-eval asks for them."""

import pytest

from sa_lightning.errors import DataError
from sa_lightning.evaluation.tasks.facts import facts, process_facts
from sa_lightning.facts import Fact, Neighbour, begins_with, holds, read_facts, write_facts
from sa_lightning.resources import shipped
from sa_lightning.testbed.facts import facts_of

ROME = Fact(
    "France", "What is the capital of France?", "The capital of France is Rome.", "The capital of France is Paris.",
    ("Name the capital of France.",), (Neighbour("What is the capital of Spain?", "Madrid"), Neighbour("Who?")),
)  # fmt: skip


def test_facts_are_read_as_they_were_written(tmp_path):
    write_facts([ROME], tmp_path / "facts.jsonl")
    assert read_facts(tmp_path / "facts.jsonl") == [ROME]


def test_what_is_new_is_what_both_do_not_begin_with():
    assert ROME.news == "Rome."
    assert ROME.olds == "Paris."
    assert Fact("a", "a", "the b").news == "the b"


@pytest.mark.parametrize(
    ("reply", "begins", "within"),
    [("Rome. It is old.", True, True), ("It is rome!", False, True), ("Romeo", False, False), ("", False, False)],
)
def test_answers_are_compared_word_for_word(reply, begins, within):
    assert begins_with(reply, "Rome") is begins
    assert holds(reply, "Rome") is within


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"subject": "a", "prompt": "a b"}', "no `target`"),
        ('{"subject": "c", "prompt": "a b", "target": "d"}', "does not hold"),
        ('{"subject": "a", "prompt": "a b", "target": "d", "paraphrases": "e"}', "no list of texts"),
        ('{"subject": "a", "prompt": "a b", "target": "d", "locality": [3]}', "prompt and answer"),
        ("", "no facts"),
    ],
)
def test_rows_of_another_form_are_refused(tmp_path, row, message):
    (tmp_path / "facts.jsonl").write_text(row + "\n")
    with pytest.raises(DataError, match=message):
        read_facts(tmp_path / "facts.jsonl")


def test_questions_with_answers_become_facts(tmp_path):
    answer = " ".join(f"word{number}" for number in range(30))
    (tmp_path / "rows.csv").write_text(f"Cluster,Question,Answer\nsleep, How long do adults sleep?,{answer}\n")
    (found,) = read_facts(tmp_path / "rows.csv")
    assert (found.subject, found.prompt) == ("sleep", "How long do adults sleep?")
    assert found.target == " ".join(answer.split()[:12])


def test_every_measure_asks_its_prompts(tmp_path):
    write_facts([ROME], tmp_path / "facts.jsonl")
    asked = {
        measure: facts(facts=str(tmp_path / "facts.jsonl"), measure=measure)["test"]
        for measure in ("efficacy", "paraphrase", "locality")
    }
    assert [(d["asked"], d["answer"]) for found in asked.values() for d in found] == [
        (ROME.prompt, ROME.target),
        ("Name the capital of France.", "Rome."),
        ("What is the capital of Spain?", "Madrid"),
    ]
    (document,) = asked["efficacy"]
    assert process_facts(document, ["The capital of France is Rome, of course."]) == {"exact_match": 1.0}
    assert process_facts(document, ["In France, the capital is Rome."]) == {"exact_match": 0.0}


def test_a_task_without_a_file_says_how_to_name_one():
    with pytest.raises(DataError, match="facts: FILE"):
        facts(measure="efficacy")


def test_the_shipped_facts_can_be_read_and_each_has_paraphrases_and_neighbours():
    found = read_facts(shipped("configs") / "facts" / "common.jsonl")
    assert 40 <= len(found) <= 80
    assert all(one.old and one.old != one.target and one.paraphrases and one.locality for one in found)
    assert all(near.answer and one.subject not in near.prompt for one in found for near in one.locality)


def test_facts_of_a_world_change_to_another_value_of_the_same_attribute():
    rows = [
        {"kind": "facts", "group": f"{attribute} {place}", "prompt": f"{word} {attribute} of {place} ?",
         "answer": f"the {attribute} of {place} is {value} ."}
        for attribute, values in {"dish": ("rice", "fish"), "colour": ("red", "blue")}.items()
        for place, value in zip(("zor", "bel"), values, strict=True)
        for word in ("what", "which")
    ]  # fmt: skip
    found = {(one["prompt"].split()[1], one["subject"]): one for one in facts_of(rows)}
    assert len(found) == 4
    assert found["dish", "zor"]["target"] == "fish"
    assert found["dish", "zor"]["paraphrases"] == ["which dish of zor ?"]
    assert {near["answer"] for near in found["dish", "zor"]["locality"]} == {"fish", "red"}
