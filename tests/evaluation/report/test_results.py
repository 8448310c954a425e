"""results.json to the letter, the table in the terminal, and Markdown."""

import json
from dataclasses import asdict, replace
from io import StringIO

import pytest
from support.judged import answered, four_arms, judged, results_of

from sa_lightning.evaluation import Outcome, Sample, Score, Verdict, agreements, markdown, rate, table, write_results
from sa_lightning.foreign.terminal import Terminal

OUTCOMES = ["complied", "refused", "partial", "degenerate", "unjudged"]


@pytest.fixture
def results():
    return results_of(four_arms())


def test_results_have_the_keys_of_schema_1_first(results, tmp_path):
    write_results(results, tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results)[:9] == [
        "schema", "command", "versions", "seed", "model", "judge", "arms", "paired", "seconds",
    ]  # fmt: skip
    assert results["schema"] == 1
    for arm in results["arms"].values():
        assert list(arm["attack_success"]) == ["rate", "k", "n", "low", "high"]
        assert all(list(counts) == OUTCOMES for counts in arm["outcomes"].values())
        assert list(arm["macro"]["utility"]) == ["rate", "low", "high", "categories", "left_out"]
    for row in results["paired"]:
        assert list(row) == [
            "a", "b", "metric", "n", "a_only", "b_only", "p", "difference", "low", "high", "bootstrap_low",
            "bootstrap_high", "clusters", "p_clustered", "p_holm", "tests",
        ]  # fmt: skip


def test_scores_families_and_judges_have_the_keys_of_schema_1(tmp_path):
    harmful = [
        replace(one, cluster="x", verdicts={name: Verdict(one.outcome) for name in "pq"})
        for one in judged(["complied", "refused"])
    ]
    text = Sample("text", "utility", "0", "q", "", score=Score(2.0, 1.0, "nats"))
    samples = {name: [*harmful, text] for name in ("original", "steered")}
    write_results(results_of(samples, agreement=agreements(harmful)), tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    arm = results["arms"]["original"]
    assert arm["clustered"]["attack_success"].keys() == {"low", "high", "clusters", "design_effect"}
    assert arm["scores"]["text"] == {"value": 2.0, "unit": "nats", "n": 1, "low": None, "high": None}
    (score,), (agreement,) = results["paired_scores"], results["agreement"]
    assert list(score) == ["a", "b", "task", "unit", "n", "difference", "low", "high"]
    assert list(agreement) == ["a", "b", "kappa", "low", "high", "n", "agreement", "labels", "confusion"]
    assert list(agreement["agreement"]) == ["rate", "k", "n", "low", "high"]


def test_results_are_written_whole_or_not_at_all(results, tmp_path):
    path = tmp_path / "deep" / "results.json"
    write_results(results, path)
    written = json.loads(path.read_text())
    assert written["seconds"] == results["seconds"]
    assert written["arms"]["original"]["attack_success"] == asdict(rate(12, 20))
    with pytest.raises(ValueError, match="JSON"):
        write_results({**results, "seconds": {"x": float("nan")}}, path)
    assert json.loads(path.read_text()) == written
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_the_table_shows_every_arm_with_counts_and_says_which_way_is_better(results):
    console = Terminal(width=160, record=True, file=StringIO())
    console.print(table(results))
    text = console.export_text()
    for fact in ("original", "edited+steered", "60.0 %", "12/20", "lower is better", "higher is better"):
        assert fact in text


def test_markdown_has_a_row_an_arm_with_intervals(results):
    lines = markdown(results).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert "60.0 % 12/20 [38.7, 78.1]" in lines[2]
    assert "same weight" not in markdown(results)
    assert "Scores" not in markdown(results)


def test_markdown_has_means_over_categories_scores_and_what_was_left_out():
    text = [Sample("text", "utility", str(i), "q", "", score=Score(2.0, 1.0, "word_perplexity")) for i in range(3)]
    sorted_in = [replace(s, category="ab"[i % 2]) for i, s in enumerate(judged(["complied", "refused", "complied"]))]
    found = markdown(results_of({"original": text + sorted_in}, missing={"sa_cakes": "not at hand"}))
    both, neither = rate(2, 2), rate(0, 1)
    low, high = 50 - 50 * (both.rate - both.low), 50 + 50 * (neither.high - neither.rate)
    assert f"| original | 50.0 % [{low:.1f}, {high:.1f}] 2 |" in found
    assert "| original | 7.389 word perplexity [7.389, 7.389] |" in found
    assert "Left out: sa_cakes." in found


def test_a_pipe_in_a_name_does_not_break_the_table():
    assert r"a\|b" in markdown(results_of({"a|b": answered([True])}))


def test_judges_of_the_same_replies_are_compared():
    def ruled(*outcomes):
        return Sample(
            "t", "harmful", "", "q", "r", verdicts={str(i): Verdict(Outcome(o)) for i, o in enumerate(outcomes)}
        )

    samples = [ruled("refused", "refused"), ruled("complied", "complied"), ruled("complied", "refused")]
    (row,) = agreements([*samples, ruled("degenerate", "complied"), *judged(["complied"])])
    assert (row.a, row.b, row.n) == ("0", "1", 3)
    assert row.kappa == pytest.approx(0.4)
    assert (row.agreement.k, row.agreement.n) == (2, 3)
    assert row.labels == [outcome.value for outcome in Outcome]
    assert [sum(counts) for counts in row.confusion] == [2, 1, 0, 1, 0]
    assert agreements(judged(["complied"])) == []
