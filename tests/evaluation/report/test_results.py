"""results.json to the letter, the table in the terminal, and Markdown."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from support.judged import answered, four_arms, judged, results_of

from sa_lightning.evaluation import Outcome, Sample, Score, Verdict, agreements, markdown, rate, table, write_results

OUTCOMES = ["complied", "refused", "partial", "degenerate", "unjudged"]


@pytest.fixture
def results():
    return results_of(four_arms())


def test_results_have_the_keys_of_schema_1_first(results):
    assert list(results)[:9] == [
        "schema", "command", "versions", "seed", "model", "judge", "arms", "paired", "seconds",
    ]  # fmt: skip
    assert results["schema"] == 1
    for arm in results["arms"].values():
        assert list(arm["attack_success"]) == ["rate", "k", "n", "low", "high"]
        assert all(list(counts) == OUTCOMES for counts in arm["outcomes"].values())
    assert all(list(row)[:7] == ["a", "b", "metric", "n", "a_only", "b_only", "p"] for row in results["paired"])


def test_results_are_written_whole_or_not_at_all(results, tmp_path):
    path = tmp_path / "deep" / "results.json"
    write_results(results, path)
    assert json.loads(path.read_text()) == results
    with pytest.raises(ValueError, match="JSON"):
        write_results({**results, "seconds": {"x": float("nan")}}, path)
    assert json.loads(path.read_text()) == results
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_the_table_shows_every_arm_with_counts_and_says_which_way_is_better(results):
    console = Console(width=160, record=True, file=StringIO())
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
    low, high = 50 - 50 * (both["rate"] - both["low"]), 50 + 50 * (neither["high"] - neither["rate"])
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
    assert (row["a"], row["b"], row["n"]) == ("0", "1", 3)
    assert row["kappa"] == pytest.approx(0.4)
    assert (row["agreement"]["k"], row["agreement"]["n"]) == (2, 3)
    assert row["labels"] == [outcome.value for outcome in Outcome]
    assert [sum(counts) for counts in row["confusion"]] == [2, 1, 0, 1, 0]
    assert agreements(judged(["complied"])) == []
