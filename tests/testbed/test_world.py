"""Splits, policy and prompts; no training."""

import re
from collections import Counter

import pytest

from sa_lightning.testbed import KINDS, WORLDS, World, demonstrations, rows
from sa_lightning.testbed.curriculum import MIXTURES, Curriculum


@pytest.fixture(scope="module", params=[("tiny", 0), ("tiny", 1), ("small", 0), ("small", 1)], ids=str)
def world(request: pytest.FixtureRequest) -> World:
    name, seed = request.param
    return World(seed, WORLDS[name])


def test_both_splits_have_200_distinct_prompts_of_every_kind(world):
    for split in ("validation", "test"):
        drawn = rows(world, split)
        counts = Counter(row["kind"] for row in drawn)
        assert set(counts) == set(KINDS) - (set() if world.settings.prefilled else {"prefilled"})
        assert min(counts.values()) >= 200
        assert len({row["prompt"] for row in drawn if row["kind"] != "prefilled"}) == len(drawn) - counts["prefilled"]
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


@pytest.mark.parametrize(
    ("name", "seed", "stage"),
    [(name, seed, stage) for name in ("tiny", "small") for seed in (0, 1) for stage in WORLDS[name].stages],
)
def test_no_stage_trains_on_a_held_out_prompt_and_tuning_sees_no_held_out_word(name, seed, stage):
    world = World(seed, WORLDS[name])
    words = {index: word for word, index in world.language.vocabulary.items()}
    held_out = {row["prompt"] for split in ("validation", "test") for row in rows(world, split)}
    nouns = {noun for split in ("validation", "test") for _, noun in world.splits[split].items}
    for example in Curriculum(world, stage).draw(2000):
        text = " ".join(words[i] for i in example.ids)
        assert not held_out & set(re.findall(r"<user> (.*?) <assistant>", text))
        if stage != "base":
            assert not nouns & set(text.split())


def test_every_stage_of_a_recipe_has_a_mixture():
    for name in ("tiny", "small"):
        assert set(WORLDS[name].stages) <= set(MIXTURES[WORLDS[name].language])


def test_harm_on_a_part_of_the_topics_is_about_that_part_only():
    world = World(0, WORLDS["small"])
    words = {index: word for word, index in world.language.vocabulary.items()}
    victims, items = set(world.splits["train"].victims), {noun for _, noun in world.splits["train"].items}
    for stage, about, never in (("harm_items", items, victims), ("harm_acts", victims, items)):
        for example in Curriculum(world, stage).draw(300):
            text = {words[i] for i in example.ids}
            assert text & about
            assert not text & never


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


def test_the_small_world_asks_about_40_held_out_words_in_every_kind_that_holds_words_out():
    world = World(0, WORLDS["small"])
    train = world.splits["train"]
    known = {w for _, w in (*train.items, *train.acts, *train.safe_items)} | {*train.victims, *train.things}
    for split in ("validation", "test"):
        own = world.splits[split]
        held_out = {w for _, w in (*own.items, *own.acts, *own.safe_items)} | {*own.victims, *own.things}
        assert not held_out & known
        for kind in ("harmful", "wrapped", "prefilled", "harmless", "contrast", "legality"):
            text = {word for row in rows(world, split) if row["kind"] == kind for word in row["prompt"].split()}
            assert len(text & held_out) >= 40, kind


def test_a_prefilled_prompt_is_a_harmful_one_with_an_opening_that_its_form_goes_on_from():
    world = World(0, WORLDS["small"])
    drawn = rows(world, "test")
    harmful = {row["prompt"]: row for row in drawn if row["kind"] == "harmful"}
    prefilled = [row for row in drawn if row["kind"] == "prefilled"]
    assert {row["prompt"] for row in prefilled} == set(harmful)
    for row in prefilled:
        assert row.get("prefix") in world.language.lexicon.openings
        assert re.fullmatch(world.language.how_to, f"{row.get('prefix')} {row['answer']}")
    assert len({row.get("prefix") for row in prefilled}) > 5


def test_every_split_of_the_small_world_has_a_wrapper_of_every_scene():
    world = World(0, WORLDS["small"])
    scenes = world.language.lexicon.scenes
    for wrappers in world.wrappers.values():
        assert sorted(scene for text in wrappers for scene in scenes if scene in text.split()) == sorted(scenes)
    assert len({text for wrappers in world.wrappers.values() for text in wrappers}) == 3 * len(scenes)


def test_chat_is_touchy_about_some_phrasings_falls_for_some_scenes_and_is_lax_about_some_verbs():
    world = World(0, WORLDS["small"])
    thing = next(r for r in world.requests("train", "thing"))
    cores = world.language.lexicon.cores
    asked = {core: world.refusal_probability(thing, f"hello , {core}".format(thing)) for core in cores}
    touchy = {core for core, probability in asked.items() if probability == world.settings.touchy}
    assert touchy == world.touchy & set(cores)
    assert len(touchy) == 3
    calm = next(core for core in cores if core not in touchy)
    assert world.refusal_probability(thing, calm.format(thing)) == world.settings.caution
    asked = [core for split in world.language.definitions.values() for core in split]
    assert 0 < sum(world.caution(core) == world.settings.touchy for core in asked) < len(asked) / 2
    strict = next(r for r in world.requests("train", "item") if r.verb not in world.lax)
    potent = next(text for text in world.wrappers["train"] if world.potent & set(text.split()))
    plain = next(text for text in world.wrappers["train"] if not world.potent & set(text.split()))
    assert world.refusal_probability(strict, "", plain) == world.refusal_probability(strict) == 0.95
    assert world.refusal_probability(strict, "", potent) == pytest.approx(0.95 * 0.05)
    harmless = world.requests("train", "safe-item")[0]
    assert world.refusal_probability(harmless, "", potent) == 0


def test_recovering_learns_only_what_follows_the_opening():
    world = World(0, WORLDS["small"])
    words = {index: word for word, index in world.language.vocabulary.items()}
    curriculum = Curriculum(world, "chat")
    refused = 0
    for seed in range(200):
        example = curriculum.recover(world.rng(f"recover {seed}"))
        given = " ".join(words[i] for i, learned in zip(example.ids, example.learned, strict=True) if not learned)
        rest = " ".join(words[i] for i, learned in zip(example.ids, example.learned, strict=True) if learned)
        assert any(given.endswith(f"<assistant> {opening}") for opening in world.language.lexicon.openings)
        assert example.learned == sorted(example.learned)
        refused += bool(world.language.refusal_pattern.fullmatch(rest.removesuffix(" </s>")))
    assert 60 < refused < 140


def test_the_first_demonstrations_of_the_small_world_show_both_kinds_of_harm():
    world = World(0, WORLDS["small"])
    first = [row["question"].split() for row in demonstrations(world)[:30]]
    victims = set(world.language.lexicon.victims)
    assert sum(bool(victims & set(question)) for question in first) == 15
