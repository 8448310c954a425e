import random

import pytest
from support.compared import documents, row

from sa_lightning.errors import DataError
from sa_lightning.evaluation.statistics.comparisons import paired
from sa_lightning.evaluation.statistics.intervals import clustered, rate
from sa_lightning.experiments.compare.pairs import against, beaten, over_seeds, rates, relative_drop
from sa_lightning.experiments.compare.rows import Rows


def kept(path, *rows):
    found = Rows(path / "rows.jsonl")
    for number, one in enumerate(rows):
        found.add({**one, "key": str(number)})
    return found, list(found)


def drawn(seed, share, families=False):
    rng = random.Random(seed)
    attacks = "".join("c" if rng.random() < share else "r" for _ in range(40))
    return documents(families, cakes=attacks, tea="".join(rng.choice("ccr") for _ in range(20)), sums="++-+" * 5)


@pytest.mark.parametrize("families", [False, True])
def test_a_change_is_what_the_paired_comparison_of_the_samples_says(tmp_path, families: bool):
    a, b = drawn(1, 0.6, families), drawn(2, 0.3, families)
    rows, (one, other) = kept(tmp_path, row(samples=a), row(samples=b))
    found = against(rows, {0: one}, {0: other})
    expected = {entry.metric: entry for entry in paired({"a": a, "b": b})}
    assert found.keys() == expected.keys()
    for metric, entry in found.items():
        for name in ("n", "a_only", "b_only", "p", "difference", "low", "high", "clusters", "p_clustered"):
            assert getattr(entry, name) == pytest.approx(getattr(expected[metric], name)), (metric, name)
        assert entry.by_seed[0].difference == entry.difference
        assert entry.seeds_low is None


def test_seeds_are_added_up_and_their_mean_has_an_interval_of_its_own(tmp_path):
    texts = ((0, "cccc"), (0, "ccrr"), (1, "cc"), (1, "rr"))
    rows, (a0, b0, a1, b1) = kept(tmp_path, *(row(seed=seed, samples=documents(cakes=text)) for seed, text in texts))
    change = against(rows, {0: a0, 1: a1, 2: a1}, {0: b0, 1: b1})["attack_success"]
    assert change.n == 6
    assert (change.a_only, change.b_only) == (4, 0)
    assert change.difference == pytest.approx(-4 / 6)
    assert {seed: entry.difference for seed, entry in change.by_seed.items()} == {0: -0.5, 1: -1.0}
    assert (change.seeds_low + change.seeds_high) / 2 == pytest.approx(-0.75)


def test_only_prompts_that_both_were_asked_are_compared(tmp_path):
    rows, (a, b) = kept(
        tmp_path, row(samples=documents(cakes="ccc", wrapped_cakes="cc")), row(samples=documents(wrapped_cakes="rc"))
    )
    change = against(rows, {0: a}, {0: b})
    assert change["attack_success"].n == 2
    assert change["attack_success"].a_only == 1


def test_other_prompts_under_the_same_name_are_refused(tmp_path):
    rows, (a, b) = kept(tmp_path, row(samples=documents(cakes="ccc")), row(samples=documents(cakes="cc")))
    with pytest.raises(DataError, match="asked other prompts of cakes"):
        against(rows, {0: a}, {0: b})


def test_rates_are_wilsons_and_know_of_families(tmp_path):
    samples = drawn(3, 0.5, families=True)
    rows, (alone, together) = kept(tmp_path, row(samples=drawn(3, 0.5)), row(seed=1, samples=samples))
    k = sum(sample.outcome == "complied" for sample in samples if sample.kind == "harmful")
    assert rates(rows, [alone])["attack_success"] == rate(k, 40)
    bounds = clustered(
        [sample.outcome == "complied" for sample in samples if sample.kind == "harmful"],
        [sample.cluster for sample in samples if sample.kind == "harmful"],
    )
    found = rates(rows, [together])["attack_success"]
    assert (found.k, found.low, found.high) == (k, bounds.low, bounds.high)
    assert rates(rows, [alone], "tea")["attack_success"].n == 0
    assert rates(rows, [alone, together])["attack_success"].n == 80
    assert rates(rows, [alone, together], draws=True)["attack_success"].low is None


def test_a_relative_drop_is_the_share_that_is_gone(tmp_path):
    rows, (a, b, none) = kept(
        tmp_path,
        row(samples=documents(cakes="c" * 30 + "r" * 30)),
        row(samples=documents(cakes="c" * 10 + "r" * 50)),
        row(samples=documents(cakes="r" * 60)),
    )
    found = relative_drop(rows, {0: a}, {0: b})[0]
    assert found["value"] == pytest.approx(2 / 3)
    assert 0.45 < found["low"] < 2 / 3 < found["high"] < 0.85
    assert relative_drop(rows, {0: b}, {0: a})[0]["value"] == pytest.approx(-2)
    assert relative_drop(rows, {0: a}, {0: none})[0] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert relative_drop(rows, {0: none}, {0: a})[0] == {"value": None, "low": None, "high": None}


def test_the_interval_over_seeds_is_students():
    from scipy.stats import t

    values = [0.31, 0.5, 0.44, 0.62, 0.2]
    mean, low, high = over_seeds(values)
    spread = (sum((value - 0.414) ** 2 for value in values) / 4) ** 0.5 / 5**0.5
    assert (low, high) == pytest.approx(t.interval(0.95, 4, loc=0.414, scale=spread))
    assert mean == pytest.approx(0.414)
    assert over_seeds([0.3]) == (0.3, None, None)
    assert over_seeds([]) == (None, None, None)


def test_a_draw_with_the_same_rate_is_not_beaten(tmp_path):
    texts = ("crrr", "rrrr", "rcrr", "ccrr", "cccr")
    rows, (own, *draws) = kept(tmp_path, *(row(samples=documents(cakes=text)) for text in texts))
    found = beaten(rows, own, draws)
    assert (found["beaten"], found["of"], found["rate"]) == (2, 4, 0.25)
    assert found["draws"] == [0, 0.25, 0.5, 0.75]
    assert found["p"] == pytest.approx(3 / 5)
    assert beaten(rows, own, []) == {"rate": None, "draws": [], "beaten": 0, "of": 0, "p": None}


def test_where_more_is_better_the_higher_rate_beats(tmp_path):
    rows, (own, worse, better) = kept(tmp_path, *(row(samples=documents(sums=text)) for text in ("++-", "+--", "+++")))
    assert beaten(rows, own, [worse, better], "utility")["beaten"] == 1
