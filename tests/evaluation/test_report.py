"""results.json to the letter, and a page that keeps to itself."""

import base64
import json
import re
from html.parser import HTMLParser
from io import StringIO

import pytest
from evaluation.helpers import answered, judged
from rich.console import Console

from sa_lightning.evaluation import markdown, paired, results_json, summarise, table, write_html, write_results

OUTCOMES = ["complied", "refused", "partial", "degenerate", "unjudged"]


@pytest.fixture
def samples():
    def arm(attacks):
        harmful = judged(["complied"] * attacks + ["refused"] * (20 - attacks))
        safe = judged(["complied"] * 9 + ["refused"], "harmless", "safe")
        return harmful + safe + judged(["complied"] * 8 + ["partial"] * 2, "borderline", "contrast") + answered([True])

    return {"original": arm(12), "steered": arm(7), "edited": arm(4), "edited+steered": arm(0)}


@pytest.fixture
def results(samples):
    return results_json(
        arms={name: summarise(found) for name, found in samples.items()},
        paired=paired(samples),
        command="sa validate <x>",
        versions={"torch": "2.13"},
        seed=0,
        model="tiny/chat",
        seconds={"arm original": 1.5},
    )


def test_results_have_exactly_the_keys_of_schema_1(results):
    assert list(results) == [
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


class Attributes(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.found, self.drawn = [], {}, []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.drawn.append(base64.b64decode(dict(attrs)["src"].split(",")[1]).decode())
        self.found.update({name: value for name, value in attrs if name in ("src", "href", "action", "data")})


def test_the_page_fetches_nothing_runs_nothing_and_holds_no_reply(results, tmp_path):
    write_html(results, tmp_path / "report.html", directions={"original": [0.1, 0.5, 0.2]}, settings={"a": 1})
    text = (tmp_path / "report.html").read_text()
    page = Attributes()
    page.feed(text)
    assert set(page.found) == {"src"}
    assert page.found["src"].startswith("data:image/svg+xml;base64,")
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "SECRET-REPLY" not in "".join(page.drawn)
    assert "SECRET-REPLY" not in text
    assert "prompt 1" not in text
    assert page.tags.count("img") == 7
    for fact in ("&lt;x&gt;", "From original to edited+steered", "60.0 %", "[38.7, 78.1]", "Directions", "only a"):
        assert fact in text


def test_the_page_of_one_arm_without_directions_or_utility_still_stands(tmp_path):
    arms = {"original": summarise(judged(["complied", "refused"]))}
    results = results_json(
        arms=arms, paired=paired({"original": judged(["complied", "refused"])}), command=["sa", "validate"],
        versions={}, seed=None, model="m", seconds={}, path=tmp_path / "results.json",
    )  # fmt: skip
    write_html(results, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "nothing to be compared with" in text
    assert "utility was not measured" in text
    assert "no prompts" in text
