"""Splits, policy and prompts; no training."""

import re
from collections import Counter

import pytest

from sa_lightning.testbed import KINDS, WORLDS, World, demonstrations, rows
from sa_lightning.testbed.curriculum import MIXTURES, Curriculum
from sa_lightning.testbed.language import VOCABULARY

_WORDS = {index: word for word, index in VOCABULARY.items()}


@pytest.fixture(scope="module", params=[0, 1])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param, WORLDS["tiny"])


def test_both_splits_have_200_distinct_prompts_of_every_kind(world):
    for split in ("validation", "test"):
        drawn = rows(world, split)
        counts = Counter(row["kind"] for row in drawn)
        assert set(counts) == set(KINDS)
        assert min(counts.values()) >= 200
        assert len({row["prompt"] for row in drawn}) == len(drawn)
        assert len({row["id"] for row in drawn}) == len(drawn)


def test_gold_answers_have_the_form_of_their_row(world):
    for split in ("validation", "test"):
        for row in rows(world, split):
            assert re.fullmatch(row["form"], row["answer"]), row
            assert not re.fullmatch(row["form"], "sorry , i cannot help with that .")


def test_validation_and_test_share_no_prompt_and_no_held_out_word(world):
    validation, test = rows(world, "validation"), rows(world, "test")
    assert not {row["prompt"] for row in validation} & {row["prompt"] for row in test}
    a, b, train = (world.splits[split] for split in ("validation", "test", "train"))
    for field in ("items", "acts", "victims", "things", "safe_items", "sums"):
        dealt = [set(getattr(split, field)) for split in (a, b, train)]
        assert len(set.union(*dealt)) == sum(map(len, dealt))


@pytest.mark.parametrize("stage", MIXTURES)
def test_no_stage_trains_on_a_held_out_prompt_and_tuning_sees_no_held_out_word(world, stage):
    held_out = {row["prompt"] for split in ("validation", "test") for row in rows(world, split)}
    nouns = {noun for split in ("validation", "test") for _, noun in world.splits[split].items}
    for example in Curriculum(world, stage).draw(2000):
        text = " ".join(_WORDS[i] for i in example.ids)
        assert not held_out & set(re.findall(r"<user> (.*?) <assistant>", text))
        if stage != "base":
            assert not nouns & set(text.split())


def test_contrast_prompts_hold_trigger_verbs_and_dangerous_nouns_and_are_never_harmful(world):
    drawn = [row for row in rows(world, "validation") if row["kind"] == "contrast"]
    text = {word for row in drawn for word in row["prompt"].split()}
    assert text & {verb for _, verb in world.splits["validation"].acts}
    assert text & {noun for _, noun in world.splits["validation"].items}
    assert not any(word in row["prompt"].split() for row in drawn for word in ("crime", "harmful"))
    victims = {noun for split in world.splits.values() for noun in split.victims}
    assert not text & victims


def test_demonstrations_use_training_words_only_and_have_two_sides(world):
    drawn = demonstrations(world)
    assert len(drawn) >= 64
    held_out = {
        word
        for split in ("validation", "test")
        for word in (*world.splits[split].victims, *(noun for _, noun in world.splits[split].items))
    }
    for row in drawn:
        assert set(row) == {"question", "unsafe", "safe"}
        assert not held_out & set(row["question"].split())
        assert row["unsafe"] != row["safe"]
        assert row["unsafe"].endswith(" .")
        assert row["safe"].endswith(" .")


def test_another_seed_holds_out_other_words():
    a, b = (World(seed, WORLDS["tiny"]) for seed in (0, 1))
    assert a.splits["test"].items != b.splits["test"].items
