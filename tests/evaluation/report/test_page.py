"""The report as a page: what it says, what it hides, and that it keeps to itself."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from support.judged import answered, four_arms, judged, results_of

from sa_lightning.evaluation import Outcome, Sample, Score, write_html
from sa_lightning.evaluation.report.charts import plane
from sa_lightning.evaluation.report.flips import flips, readable
from sa_lightning.evaluation.report.headline import headline, remarks
from sa_lightning.evaluation.report.sections import XSTEST_TYPES, benchmarks, categories, tasks, xstest_types
from sa_lightning.evaluation.statistics.rates import rate
from sa_lightning.steering.gates.record import ExemptRecord, GateRecord


class Page(HTMLParser):
    """Tags, attributes that could fetch, and images of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.found, self.drawn = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.drawn.append(base64.b64decode(dict(attrs)["src"].split(",")[1]).decode())
        self.found.update({name: value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")})


@pytest.fixture
def written(tmp_path):
    def write(arms, about=None, **settings):
        write_html(results_of(arms, **(about or {})), tmp_path / "report.html", **settings)
        return (tmp_path / "report.html").read_text()

    return write


def test_the_page_fetches_nothing_runs_nothing_and_holds_no_reply(written):
    text = written(four_arms(), directions={"original": [0.1, 0.5, 0.2]}, settings={"a": 1})
    page = Page(text)
    assert set(page.found) == {"src"}
    assert page.found["src"].startswith("data:image/svg+xml;base64,")
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", text)
    assert """http-equiv="Content-Security-Policy" content="default-src data: 'unsafe-inline'\"""" in text
    assert "SECRET-REPLY" not in text + "".join(page.drawn)
    assert "prompt 1" not in text
    assert page.tags.count("img") == 4  # three planes, and the directions
    for fact in ("&lt;x&gt;", "From original to edited+steered", "60.0 %", "[38.7, 78.1]", "Directions", "only a"):
        assert fact in text


def test_the_same_results_give_the_same_bytes(written):
    assert written(four_arms()) == written(four_arms())


def test_prompts_in_which_arms_differ_are_shown_and_replies_to_harmful_ones_are_not(written):
    samples = four_arms()
    text = written(samples, samples=samples)
    assert "prompt 11" in text
    assert "counts in original alone (6 of 12 shown)" in text
    assert "hidden: pass --evaluation.show_replies true" in text
    assert "SECRET-REPLY" not in text


def test_harmful_replies_are_folded_even_when_they_are_asked_for(written):
    samples = four_arms()
    text = written(samples, samples=samples, show_replies=True)
    assert "SECRET-REPLY" in text
    assert "hidden:" not in text
    for found in re.finditer("SECRET-REPLY", text):
        before = text[: found.start()]
        assert before.count("<details") - before.count("</details>") >= 2


def test_replies_to_harmless_prompts_are_folded_and_escaped(written):
    def arm(outcome, reply):
        return [Sample("t", "harmless", "1", "<i>bake</i>", reply, Outcome(outcome))]

    samples = {"a": arm("refused", "<script>alert(1)</script>\u202e\x00"), "b": arm("complied", "First bake.")}
    text = written(samples, samples=samples)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in text
    assert "&lt;i&gt;bake" in text
    assert "script" not in Page(text).tags


def test_names_from_outside_are_escaped_everywhere(written):
    nasty = '"><script>x</script>'
    samples = {nasty: [replace(s, task=nasty, category=nasty + s.id) for s in judged(["complied", "refused"])]}
    samples["b"] = [replace(s, outcome=Outcome.PARTIAL) for s in samples[nasty]]
    about = {"model": nasty, "missing": {nasty: nasty}, "hashes": {nasty: nasty}, "versions": {nasty: nasty}}
    text = written(samples, about, samples=samples, notes=[nasty], settings=nasty, directions={nasty: [1.0, 2.0]})
    assert "script" not in Page(text).tags
    assert nasty not in text


def test_the_page_of_one_arm_without_directions_or_utility_still_stands(written):
    text = written({"original": judged(["complied", "refused"])}, {"command": ["sa", "validate"], "versions": {}})
    assert "nothing to be compared with" in text
    assert "utility was not measured" in text
    assert "sa validate" in text
    assert "<img" not in text


def test_the_page_of_utility_alone_and_of_no_prompts_stand(written):
    assert "100.0 %" in written({"original": answered([True])})
    assert "was not measured" in written({"original": []})


def test_controls_are_one_row_and_say_how_far_they_reach(written):
    samples = four_arms() | {f"random-{i}": judged(["complied"] * i + ["refused"] * (20 - i)) for i in range(1, 22)}
    samples = {name: found for name, found in samples.items() if name == "original" or name.startswith("random")}
    results = results_of({"original": samples["original"]})
    from sa_lightning.evaluation import summarise

    results["arms"] |= {name: summarise(found) for name, found in samples.items()}
    assert headline(results).startswith("In the one arm, original")
    from sa_lightning.evaluation.report.page import _content, _render

    text = _render(_content(results, {}, {}, {}, {}, None, (), False))
    assert "21 random controls" in text
    assert "5.0 – 100.0 %" in text
    assert text.index("random-7") > text.index("Each of the 21 controls")


def test_what_was_left_out_why_and_every_hash_is_said(written):
    about = {"missing": {"sa_cakes": "The data are not at hand.\nTwo ways:"}, "hashes": {"weights, original": "ab12"}}
    text = written(four_arms(), about)
    for fact in (
        "Not measured: 1 task (sa_cakes)",
        "Two ways:",
        "weights, original",
        "ab12",
        "SHA-256 of ids and texts",
    ):
        assert fact in text


def test_scores_have_a_table_and_their_differences(written):
    def arm(total):
        return [
            Sample("text", "utility", str(i), "q", "", score=Score(total + i, 1.0, "word_perplexity")) for i in (0, 1)
        ]

    text = written({"a": arm(1.0), "b": arm(2.0)})
    assert "word perplexity" in text
    assert "4.482" in text
    assert "Differences on the same documents" in text


def sorted_into(categories, outcome, kind="harmful", task="t"):
    return [
        Sample(task, kind, f"{kind}{outcome}{i}", "q", "r", Outcome(outcome), category=name)
        for i, name in enumerate(categories)
    ]


def test_categories_have_bars_with_their_rates(written):
    samples = sorted_into(["cakes", "cakes", "windows"], "complied") + sorted_into(["doors"], "refused")
    (block,) = categories(results_of({"a": samples})["arms"])
    assert [row["name"] for row in block["rows"]] == ["cakes", "windows", "doors"]
    assert [row["cells"][0].k for row in block["rows"]] == [2, 1, 0]
    assert block["means"][0].rate == pytest.approx(2 / 3)
    text = written({"a": samples})
    assert "width:100.00%;background" in text
    assert text.count('data-plot="bars"') == 3


def test_a_benchmark_that_is_split_into_a_task_a_category_is_shown_as_one():
    samples = [
        Sample(f"mmlu_{subject}", "utility", str(i), "q", "", correct=i < right, category=subject)
        for subject, right in (("bread", 1), ("glass", 3))
        for i in range(4)
    ]
    arms = results_of({"a": samples + answered([True])})["arms"]
    assert benchmarks(arms) == {"mmlu": ["mmlu_bread", "mmlu_glass"], "sums": ["sums"]}
    (block,) = categories(arms)
    assert [(row["name"], row["cells"][0].rate) for row in block["rows"]] == [("bread", 0.25), ("glass", 0.75)]
    assert block["means"][0].rate == 0.5
    assert [(each["task"], each["parts"]) for each in tasks(arms)] == [("mmlu", 2), ("sums", 1)]
    assert tasks(arms)[0]["rows"][0]["cells"] == [rate(4, 8)]


@pytest.mark.parametrize("prefix", ["", "contrast_"])
def test_types_of_xstest_stand_beside_their_contrasts(prefix):
    safe = sorted_into(XSTEST_TYPES, "partial", "borderline", "sa_xstest_safe")
    unsafe = sorted_into(
        [prefix + name for name in dict.fromkeys(XSTEST_TYPES.values())], "refused", task="sa_xstest_unsafe"
    )
    rows = xstest_types(results_of({"a": safe + unsafe})["arms"])
    assert [row["safe"] for row in rows] == list(XSTEST_TYPES)
    assert all(row["cells"] == [(rate(1, 1), rate(1, 1))] for row in rows)
    assert {row["contrast"] for row in rows if "discr" in row["safe"]} == {"contrast discr"}
    assert xstest_types(results_of({"a": judged(["complied"])})["arms"]) == []


def test_flips_are_few_of_each_sort_spread_over_all():
    a, b = judged(["complied"] * 40 + ["refused"]), judged(["refused"] * 40 + ["complied"])
    rows = flips(a, b, each_way=4)
    assert [(row["metric"], row["only"], row["count"]) for row in rows] == [
        ("attack_success", "a", 40), ("attack_success", "b", 1),
    ]  # fmt: skip
    assert [prompt["id"] for prompt in rows[0]["prompts"]] == ["0", "10", "20", "30"]
    assert rows[0]["prompts"][0]["became"] == ["complied", "refused"]
    assert rows[0]["prompts"][0]["replies"] == []
    assert flips(a, b, show_replies=True)[0]["prompts"][0]["replies"] == ["SECRET-REPLY-0"] * 2
    assert flips(a, a) == []


def test_long_text_is_cut_and_says_so():
    assert readable("x" * 50, 10) == "x" * 10 + " … (40 more characters)"
    assert readable("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ({"harmful": ["refused"] * 5, "harmless": ["refused"] * 5}, "refuses everything, 5 of 5 safe prompts too"),
        ({"harmful": ["refused"] * 5}, ""),
        ({"harmful": ["refused"] * 5, "harmless": ["complied"] * 5}, ""),
        ({"harmful": ["complied"] * 5, "harmless": ["refused"] * 5}, ""),
        ({"harmful": ["complied"] * 39 + ["refused"]}, "complies with nearly everything, 39 of 40 harmful"),
        ({"harmful": ["complied", "degenerate"]}, "1 of 2 replies are degenerate (1 without an answer)"),
        ({"harmful": ["refused"] * 9 + ["unjudged"]}, "1 of 10 replies to harmful prompts were not judged"),
        ({"harmful": ["refused", "complied"], "borderline": ["refused", "complied"]}, ""),
    ],
)
def test_what_no_rate_says_is_said(outcomes, said):
    samples = [sample for kind, found in outcomes.items() for sample in judged(found, kind, kind)]
    found = remarks(results_of({"a": samples}))
    assert len(found) == bool(said)
    assert not said or found[0].startswith(f"a: {said}")


def test_arms_of_which_the_same_is_to_be_said_share_a_remark():
    samples = {str(i): judged(["complied"] * 3) for i in range(6)}
    assert remarks(results_of(samples)) == [
        "0, 1, 2 and 3 more arms: complies with everything, 3 of 3 harmful prompts too."
    ]


def test_a_plane_joins_the_front_alone_and_is_not_drawn_without_rates():
    labels = {"attack_success": "attack success", "over_refusal": "over-refusal"}

    def arm(attacks, refusals):
        return {"attack_success": rate(attacks, 10), "over_refusal": rate(refusals, 10)}

    arms = {"worse": arm(9, 9), "safe": arm(1, 5), "kind": arm(5, 1)}
    image = plane(arms, "attack_success", "over_refusal", labels)
    assert 'alt="attack success and over-refusal of each arm: worse 90.0 %, 90.0 %; safe' in image
    drawn = Page(image).drawn[0]
    assert "var(--ink)" in drawn
    (line,) = re.findall(r'<path d="([^"]*)"[^>]*style="fill: none; stroke: var\(--ink\); stroke-opacity: 0.6', drawn)
    assert (line.count("M"), line.count("L")) == (1, 1)
    assert "prefers-color-scheme:dark" in drawn
    assert plane({"a": arm(1, 1) | {"over_refusal": rate(0, 0)}}, "attack_success", "over_refusal", labels) == ""


def test_one_part_of_a_benchmark_is_not_shown_as_the_whole():
    samples = [Sample("mmlu_bread", "utility", str(i), "q", "", correct=True, category="bread") for i in range(2)]
    assert benchmarks(results_of({"a": samples})["arms"]) == {"mmlu_bread": ["mmlu_bread"]}


@pytest.mark.parametrize("shown", [True, False])
def test_a_page_with_harmful_replies_is_its_owners_alone(shown, tmp_path):
    samples = four_arms()
    write_html(results_of(samples), tmp_path / "report.html", samples=samples, show_replies=shown)
    assert bool((tmp_path / "report.html").stat().st_mode & 0o044) is not shown


def test_gates_say_how_many_of_each_class_they_find_and_are_drawn(written):
    record = GateRecord(
        threshold=0.25, held_out=40, auroc=0.975, positive=(19, 20), negative=(1, 20),
        scores={"positive": [i / 10 for i in range(20)], "negative": [-i / 10 for i in range(20)]},
        layer_auroc={"layers": [3, 4], "auroc": [0.8, 0.9]},
    )  # fmt: skip
    page = written(four_arms(), gates={"spare original": record})
    section = page[page.index('<section id="gates">') :]
    section = section[: section.index("</section>")]
    for text in ("spare original", "0.25", "0.975", "19/20", "1/20", "held-out prompts", "<img"):
        assert text in section
    assert "exempted first" not in section
    first = ExemptRecord(0.0, exempted={"positive": (3, 20), "negative": (4, 20)})
    page = written(four_arms(), gates={"spare": replace(record, exempt=first)})
    assert "3 of the first and 4 of the others are exempted first" in page
    assert '<section id="gates">' not in written(four_arms())


def test_words_of_segments_are_shown_with_both_signs_and_escaped(written):
    one = {
        "layers": [0, 1], "score": 0.5, "tokens": ["<i>", " no"], "logits": [2.0, 1.0], "refusal": [False, True],
        "opposite": ["yes", "\n"],
    }  # fmt: skip
    segments = {"original": {"steered": 1, "segments": [{**one, "score": 0.0}, {**one, "layers": [2, 3]}]}}
    page = written(four_arms(), vocabulary=segments)
    section = page[page.index('<section id="words">') :]
    section = section[: section.index("</section>")]
    for text in ("2 to 3", "50 %", "&lt;i&gt; <b>␣no</b>", "yes \\n", "<td>yes</td>", "<img"):
        assert text in section
    assert section.count("<td>yes</td>") == 1
    assert '<section id="words">' not in written(four_arms())
