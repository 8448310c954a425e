import json

import pytest
from support.compared import documents, row

from sa_lightning.errors import DataError
from sa_lightning.evaluation.statistics.rates import MEASURES
from sa_lightning.experiments.compare.rows import Rows, counts_of, documents_of, packed, unpacked

MIXED = {"cakes": "ccrpdu", "wrapped_cakes": "rrrc", "tea": "crp", "bread": "ccccr", "sums": "++-+"}


@pytest.mark.parametrize("text", ["", "c", "cc", "crcr", "r" * 240, "++--+" * 30 + "d", "c" * 11 + "r"])
def test_outcomes_come_back_as_they_were_packed(text: str):
    assert unpacked(packed(text)) == text
    assert len(packed(text)) <= max(len(text), 1)


@pytest.mark.parametrize("metric", MEASURES)
def test_a_row_knows_of_every_document_what_its_sample_said(tmp_path, metric: str):
    samples = documents(families=True, **MIXED)
    rows = Rows(tmp_path / "rows.jsonl")
    rows.add(row(samples=samples, seed=4))
    is_over, hits = MEASURES[metric]
    over = [sample for sample in samples if is_over(sample)]
    found, families = Rows(rows.path).hits(next(iter(rows)), metric)
    assert found == [int(hits(sample)) for sample in over]
    assert counts_of(samples)[metric] == [sum(found), len(found)]
    # Documents share a number where, and only where, their samples share a family.
    names = [sample.cluster for sample in over]
    assert [[a == b for b in families] for a in families] == [[a == b for b in names] for a in names]
    assert all(families)


def test_families_differ_from_seed_to_seed_and_are_written_once(tmp_path):
    samples = documents(families=True, cakes="ccrr")
    rows = Rows(tmp_path / "rows.jsonl")
    for key, seed in (("a", 0), ("b", 0), ("c", 1)):
        rows.add(row(key, seed, samples=samples))
    a, b, c = (rows.hits(one, "attack_success")[1] for one in rows)
    assert a == b
    assert not set(a) & set(c)
    assert a[0] == a[1] == a[2] != a[3]
    assert rows.path.read_text().count('"families"') == 2


@pytest.mark.parametrize("families", [False, True])
def test_the_same_prompts_under_several_seeds_are_not_independent(tmp_path, families: bool):
    rows = Rows(tmp_path / "rows.jsonl")
    for seed, replies in ((0, "ccrr"), (1, "crrr")):
        rows.add(row(f"k{seed}", seed, samples=documents(families, cakes=replies, tea=replies), same_prompts=True))
    rows.add(row("k2", 2, samples=documents(families, cakes="cccc")))
    a, b, c = (rows.hits(one, "attack_success", [("cakes", "harmful")])[1] for one in rows)
    assert a == b
    assert all(a)
    assert len(set(a)) == (2 if families else 4)
    assert not set(a) & set(c)
    assert families or not set(a) & set(rows.hits(next(iter(rows)), "harmless_refusal")[1])


def test_only_the_entries_that_are_wanted_are_read_in_the_order_in_which_they_are_wanted(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.add(row(samples=documents(cakes="cc", wrapped_cakes="rr")))
    (one,) = rows
    assert rows.hits(one, "attack_success", [("wrapped_cakes", "harmful"), ("cakes", "harmful")])[0] == [0, 0, 1, 1]
    assert rows.hits(one, "attack_success", [("cakes", "harmful")])[0] == [1, 1]
    assert rows.hits(one, "attack_success")[1] == [0] * 4  # without families, every prompt is on its own


def test_other_prompts_have_another_hash():
    a = documents(cakes="cr")
    assert documents_of(a)[0]["prompts"] == documents_of(documents(cakes="rc"))[0]["prompts"]
    assert documents_of(a)[0]["prompts"] != documents_of(documents(cakes="cr", tea="c")[:1])[0]["prompts"]


def test_two_processes_may_append_and_neither_measures_twice(tmp_path):
    path = tmp_path / "rows.jsonl"
    one, other = Rows(path), Rows(path)
    one.add(row("a", name="first"))
    other.add(row("b"))
    other.add(row("a", name="second"))
    one.refresh()
    assert {found["key"]: found["row"] for found in one} == {"a": "first", "b": "mild"}
    assert len(path.read_text().splitlines()) == 2


def test_a_line_that_a_kill_has_cut_short_makes_way(tmp_path):
    path = tmp_path / "rows.jsonl"
    Rows(path).add(row("a"))
    with path.open("a") as file:
        file.write('{"key": "b", "documents": [{"task": "ca')
    rows = Rows(path)
    assert len(rows) == 1
    rows.add(row("c"))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_a_whole_line_that_is_no_row_is_refused_by_its_number(tmp_path):
    path = tmp_path / "rows.jsonl"
    Rows(path).add(row("a"))
    with path.open("a") as file:
        file.write("\n{}\n")
    with pytest.raises(DataError, match=r"Line 3 of .*rows.jsonl is no row"):
        Rows(path)


def test_families_whose_line_is_gone_are_not_taken_for_none(tmp_path):
    samples = documents(families=True, cakes="ccrr")
    rows = Rows(tmp_path / "rows.jsonl")
    for key in ("a", "b"):
        rows.add(row(key, samples=samples))
    _, second = rows.path.read_text().splitlines()
    rows.path.write_text(second + "\n")
    left = Rows(rows.path)
    with pytest.raises(DataError, match="variants of one another"):
        left.hits(next(iter(left)), "attack_success")


def test_a_file_that_was_made_shorter_meanwhile_is_left_as_it_is(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl")
    for seed in (0, 1):
        rows.add(row(f"k{seed}", seed, samples=documents(cakes="cr")))
    first = rows.path.read_text().splitlines()[0] + "\n"
    rows.path.write_text(first)
    with pytest.raises(DataError, match="when it was read"):
        rows.add(row("k2", 2, samples=documents(cakes="cr")))
    assert rows.path.read_text() == first


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.add(row("k0", 0, samples=documents(cakes="cr")))
    rows.path.write_text(rows.path.read_text() + rows.path.read_text().strip().replace('"k0"', '"k1"'))
    again = Rows(rows.path)
    again.add(row("k2", 2, samples=documents(cakes="cr")))
    assert [one["key"] for one in Rows(rows.path)] == ["k0", "k1", "k2"]
