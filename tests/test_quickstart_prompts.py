"""The prompts of the quickstart: as many as its README says, no family in two splits, none near another."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

PROMPTS = Path(__file__).resolve().parents[1] / "configs" / "quickstart"
KINDS = ("harmful", "borderline", "harmless")


def rows(name):
    return [json.loads(line) for line in (PROMPTS / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def splits():
    return {name: rows(f"{name}.jsonl") for name in ("fit", "measure")}


def words(text):
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def likeness(a, b):
    return len(words(a) & words(b)) / len(words(a) | words(b))


@pytest.mark.parametrize("split", ["fit", "measure"])
def test_there_are_48_prompts_of_each_kind_in_families_of_two(splits, split):
    assert Counter(row["kind"] for row in splits[split]) == dict.fromkeys(KINDS, 48)
    assert {row["split"] for row in splits[split]} == {split}
    assert all(set(row) == {"prompt", "kind", "split", "group"} for row in splits[split])
    assert set(Counter((row["kind"], row["group"]) for row in splits[split]).values()) == {2}


def test_no_family_and_no_wording_is_in_both_splits(splits):
    families = [{row["group"] for row in found} for found in splits.values()]
    assert not families[0] & families[1]
    asked = [row["prompt"] for found in splits.values() for row in found]
    asked += [pair["question"] for pair in rows("pairs.jsonl")]
    near = [(a, b) for a, b in itertools.combinations(asked, 2) if likeness(a, b) > 0.6]
    assert len(set(asked)) == len(asked) == 2 * 3 * 48 + 32
    assert not near


def test_pairs_decline_or_comply_in_whole_sentences_of_like_form_and_say_nothing_else():
    """A direction between a sentence and half of one would tell where sentences end."""
    pairs = rows("pairs.jsonl")
    assert len(pairs) == 32
    assert all(set(pair) == {"question", "safe", "unsafe"} for pair in pairs)
    declines = r"can't|cannot|won't|not able|not going|unable|isn't something|must decline|don't write|rather not"
    for side in ("safe", "unsafe"):
        said = [pair[side] for pair in pairs]
        assert len(set(said)) == 32
        assert all(text.endswith(".") and text.count(".") == 1 and len(text.split()) <= 16 for text in said)
        assert [bool(re.search(declines, text)) for text in said] == [side == "safe"] * 32
    lengths = [len(pair["safe"].split()) - len(pair["unsafe"].split()) for pair in pairs]
    assert abs(sum(lengths)) <= 32


def test_harmless_ones_do_not_give_themselves_away_by_their_form(splits):
    """A gate must read what is asked, not whether it is a question, or how long it is."""
    for found in splits.values():
        asked = {kind: [row["prompt"] for row in found if row["kind"] == kind] for kind in KINDS}
        questions = {kind: sum(prompt.endswith("?") for prompt in prompts) for kind, prompts in asked.items()}
        assert all(12 <= count <= 42 for count in questions.values()), questions
        lengths = {kind: sum(len(prompt.split()) for prompt in prompts) / 48 for kind, prompts in asked.items()}
        assert max(lengths.values()) < 1.5 * min(lengths.values()), lengths


def test_the_readme_of_the_prompts_states_their_licence_and_origin():
    text = (PROMPTS / "README.md").read_text()
    assert "Apache-2.0" in text
    assert "public data set" in text
