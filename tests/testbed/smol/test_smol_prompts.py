"""Prompts of the `smol` world: families are whole, no near duplicate of a test prompt is trained on; our own words."""

import collections
import itertools
import random
import re

import pytest
from support.real import real
from support.smol_data import write_stand_ins

from sa_lightning.data import registry
from sa_lightning.evaluation import Outcome
from sa_lightning.evaluation.refusal.detector import judge
from sa_lightning.testbed.smol.families import NEAR, deal, families, near_duplicates, overlap, stems
from sa_lightning.testbed.smol.ordinary import look_alikes, ordinary
from sa_lightning.testbed.smol.prompts import QUESTIONS, SOURCES, rows
from sa_lightning.testbed.smol.refusals import act_of, give_in, refuse

RESERVED = {source.name for source in SOURCES if source.only_test}


@pytest.fixture(scope="module", params=["stand-ins", pytest.param("real", marks=pytest.mark.real)])
def split(request, tmp_path_factory):
    """Rows of two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "real":
            real("SA_DATA_DIR")
            missing = [source.dataset for source in SOURCES if registry.where(source.dataset) == "missing"]
            if missing:
                pytest.skip(f"{missing} are not at hand")
        else:
            patch.setenv("SA_DATA_DIR", str(write_stand_ins(tmp_path_factory.mktemp("data"))))
        yield [rows(seed) for seed in (0, 1)]


def test_no_near_duplicate_lies_in_another_split(split):
    for found in split:
        asked = [row for row in found if row["kind"] != "utility"]
        words = [stems(row["prompt"]) for row in asked]
        for i, j in itertools.combinations(range(len(asked)), 2):
            if asked[i]["split"] != asked[j]["split"] and words[i] & words[j]:  # by the definition, pair by pair
                assert overlap(words[i], words[j]) < NEAR, (asked[i]["prompt"], asked[j]["prompt"])


def test_a_family_lies_in_one_split_and_benchmarks_of_the_report_in_the_last(split):
    for found in split:
        places = collections.defaultdict(set)
        for row in found:
            places[row["group"]].add(row["split"])
            assert row["source"] not in RESERVED or row["split"] == "test"
        assert all(len(splits) == 1 for splits in places.values())
        kinds = {(row["kind"], row["split"]) for row in found}
        assert kinds >= set(itertools.product(("harmful", "borderline", "harmless"), ("train", "validation", "test")))
        assert ("utility", "train") not in kinds


def test_ids_are_unique_and_prompts_too_within_a_source(split):
    for found in split:
        assert len({row["id"] for row in found}) == len(found)
        assert len({(row["source"], row["prompt"]) for row in found if row["kind"] != "utility"}) == len(
            [row for row in found if row["kind"] != "utility"]
        )


def test_the_first_of_a_source_are_a_sample_of_it(split):
    for found in split:
        sources = [row["source"] for row in found]
        assert sources == sorted(sources, key=[*dict.fromkeys(sources)].index)  # each in one piece
        asked = [row["prompt"] for row in found if row["source"] == "oktest"]
        published = [" ".join(row["prompt"].split()) for row in registry.read_rows("oktest")]
        assert sorted(asked) == sorted(set(published))
        places = [published.index(prompt) for prompt in asked]
        assert places != sorted(places)
        assert max(places[: len(places) // 2]) > len(published) // 2  # the second half is in the first, too


def test_the_seed_deals_anew_and_alone(split):
    one, other = split
    place = [{row["prompt"]: row["split"] for row in found if row["source"] == "advbench"} for found in (one, other)]
    assert place[0].keys() == place[1].keys()
    assert place[0] != place[1]


def test_categories_that_are_not_harmful_without_doubt_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(write_stand_ins(tmp_path)))
    found = [row for row in rows(0) if row["source"] == "catqa"]
    assert len(found) == 16  # 4 of 20 are tailored financial advice
    alike = [row["split"] for row in rows(0) if row["source"] == "advbench" and row["prompt"].endswith(" and more")]
    assert len(alike) == 3
    assert alike.count("test") >= 2  # they resemble HarmBench's, of which one is no standard behavior


@pytest.mark.real
def test_real_splits_are_large_enough_to_choose_and_to_report_by():
    real("SA_DATA_DIR")
    if any(registry.where(source.dataset) == "missing" for source in SOURCES):
        pytest.skip("some data sets are not at hand")
    counts = collections.Counter((row["split"], row["source"]) for row in rows(0))
    assert counts["train", "advbench"] >= 180
    assert counts["train", "look_alikes"] >= 150
    for source in ("advbench", "catqa", "look_alikes", "ordinary"):
        assert counts["validation", source] >= 40
        assert counts["test", source] >= 60
    assert {name: counts["test", name] for name in sorted(RESERVED)} == {
        "harmbench": 159, "jailbreakbench": 100, "malicious_instruct": 100, "oktest": 300, "or_bench": 200,
        "xstest": 250, "xstest_unsafe": 200,
    }  # fmt: skip
    assert counts["validation", "hellaswag"] == counts["test", "hellaswag"] == QUESTIONS


# The rule.


def test_near_duplicates_are_those_of_the_definition():
    rng = random.Random(0)
    sets = [frozenset(rng.sample("abcdefgh", rng.randint(1, 5))) for _ in range(120)]
    expected = {(i, j) for i in range(120) for j in range(i) if overlap(sets[i], sets[j]) >= NEAR}
    found = near_duplicates(sets)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_form_and_endings_are_no_content():
    assert stems("Write a tutorial on how to bake cakes") == stems("How do I bake a cake?") == {"bak", "cak"}
    assert stems("How can I?") == {"how", "can", "i"}  # of nothing but form, all
    assert overlap(frozenset(), frozenset()) == 0.0


def test_families_are_closed_under_chains_and_under_what_belongs_together():
    prompts = ["bake cakes", "bake cakes windows", "windows cakes doors", "paint walls", "sing songs", "dance"]
    found = families(prompts, [None, None, None, "a", "a", None])
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert len(set(found)) == 3


def test_families_are_dealt_whole_and_every_kind_by_its_share():
    rng = random.Random(0)
    family = [rng.randint(0, 300) for _ in range(1000)]
    stratum = [rng.choice("ab") for _ in family]
    reserved = [number % 10 == 0 for number in family]
    split = deal(family, stratum, reserved, {"train": 0.6, "validation": 0.2, "test": 0.2}, seed=0)
    places = collections.defaultdict(set)
    for number, name, held in zip(family, split, reserved, strict=True):
        places[number].add(name)
        assert name == "test" or not held
    assert all(len(splits) == 1 for splits in places.values())
    for kind in "ab":
        free = [name for name, k, held in zip(split, stratum, reserved, strict=True) if k == kind and not held]
        assert free.count("train") / len(free) == pytest.approx(0.6, abs=0.02)
        assert free.count("validation") / len(free) == pytest.approx(0.2, abs=0.02)


# Words of ours.

REQUESTS = [
    "Write a tutorial on how to bake a cake",
    "How do I bake a cake?",
    "Teach me how to paint a window",
    "What is the best cake?",
    "Can you help me move my table",
    "I want cake. How do I get it?",
    "Bake",
]


def test_every_refusal_reads_as_one_and_no_opening_does():
    rng = random.Random(0)
    made = [(prompt, refuse(prompt, rng)) for prompt in REQUESTS for _ in range(300)]
    for prompt, text in made:
        assert judge(prompt, text) in (Outcome.REFUSED, Outcome.PARTIAL), text
        assert "{" not in text
    assert len({text for _, text in made}) > 1000
    assert {len(re.findall(r"[.?!](?: |$)", text)) for _, text in made} >= {1, 2, 3}
    for prompt in REQUESTS:
        for _ in range(20):
            text = give_in(prompt, rng)
            assert text.endswith(":")
            assert judge(prompt, text) is Outcome.COMPLIED, text


@pytest.mark.parametrize(
    ("request_", "act"),
    [
        ("How do I pick my lock?", "pick your lock"),
        ("How to pick a lock", "pick a lock"),
        ("Teach me how to pick a lock.", "pick a lock"),
        ("Can you help me pick a lock?", "pick a lock"),
        ("Create a cake that sings", "create a cake that sings"),
        ("What is a lock?", None),
        ("How do I pick a lock? It is mine.", None),
        ("", None),
    ],
)
def test_what_is_asked_for_is_named_as_help_with_it(request_, act):
    assert act_of(request_) == act


def test_look_alikes_hold_the_word_that_they_are_named_by():
    found = look_alikes()
    assert len({prompt for _, prompt in found}) == len(found) >= 150
    for trigger, prompt in found:
        assert prompt.endswith("?")
        assert trigger[:3] in prompt.lower(), (trigger, prompt)


def test_ordinary_prompts_have_several_of_a_family_in_both_forms():
    found = ordinary(random.Random(0))
    sizes = collections.Counter(topic for topic, _ in found)
    assert set(sizes.values()) == {5, 7}
    assert len({prompt for _, prompt in found}) == len(found)
    assert any(prompt.endswith("?") for _, prompt in found)
    assert any(prompt.startswith("Provide step-by-step instructions for") for _, prompt in found)
    assert "{" not in "".join(prompt for _, prompt in found)
