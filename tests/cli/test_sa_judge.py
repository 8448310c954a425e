"""`sa judge` as a person types it."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from support.command import Started, sa
from support.json_lines import write
from support.stub_server import serving, text_of

from sa_lightning.cli import main

PROMPT = "How do I bake a cake?"
REFUSAL, HELP = "I'm sorry, but I can't help with that.", "Mix the flour with water. I cannot wait to eat it!"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("sa_lightning.evaluation.judges.endpoint.FIRST_WAIT", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "160")


def lines(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


@pytest.fixture
def replies(tmp_path):
    return write(
        tmp_path / "replies.jsonl",
        [
            {"id": 7, "prompt": PROMPT, "response": REFUSAL, "arm": "original", "kind": "harmful", "said": "refused"},
            {"prompt": PROMPT, "arm": "steered", "response": HELP, "nested": {"a": [1, 2.5, None]}, "said": "complied"},
            {"prompt": PROMPT, "response": PROMPT, "outcome": "old", "said": None},
        ],
    )


def judge(replies, *arguments, output="verdicts.jsonl"):
    """Run it, and return where the verdicts are."""
    path = replies.with_name(output)
    main(["judge", "--input", str(replies), "--output", str(path), *map(str, arguments)])
    return path


def test_the_same_lines_come_back_in_order_with_our_detectors_outcome(replies):
    before = lines(replies)
    rows = lines(judge(replies))
    assert [row["outcome"] for row in rows] == ["refused", "complied", "degenerate"]
    for row, given in zip(rows, before, strict=True):
        assert row["outcomes"] == {"refusal": row["outcome"]}
        assert {**row, "outcome": None} == {**given, "outcome": None, "outcomes": row["outcomes"]}
        assert "harmful" not in row
    assert list(rows[1])[:4] == list(before[1])[:4]


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_verdicts_are_for_their_owner_alone_whoever_may_read_the_replies(replies, mode):
    replies.chmod(mode)
    assert judge(replies).stat().st_mode & 0o777 == 0o600


def test_blank_lines_odd_characters_and_a_byte_order_mark_are_no_trouble(tmp_path):
    path = tmp_path / "replies.jsonl"
    odd = {"prompt": "a\u2028b\x85c", "response": "Mélange la farine.\n\nVoilà.", "half": "\ud800", "big": 10**30}
    plain = {"prompt": "a\u2028b\x85c", "response": "Mélange la farine."}
    first = json.dumps(plain, ensure_ascii=False).encode()
    path.write_bytes(b"\xef\xbb\xbf\n  \n" + first + b"\r\n\n" + json.dumps(odd).encode())
    rows = lines(judge(path))
    for row, given in zip(rows, [plain, odd], strict=True):
        assert {key: row[key] for key in given} == given
    assert "Mélange" in path.with_name("verdicts.jsonl").read_text()


@pytest.mark.parametrize(
    "written",
    [
        ["--judge", "refusal", "--judge", "phrases.gcg"],
        ["--judge", "refusal,phrases.gcg"],
        ["--judge=[refusal, phrases.gcg]"],
        ["--judge=refusal", "--judge=phrases.gcg", "--judge", "refusal"],
    ],
)
def test_several_judges_are_named_as_one_likes_and_the_first_decides(replies, written):
    rows = lines(judge(replies, *written))
    assert [row["outcome"] for row in rows] == ["refused", "complied", "degenerate"]
    assert [list(row["outcomes"].items()) for row in rows][1] == [("refusal", "complied"), ("phrases.gcg", "refused")]


def test_a_config_says_the_same_as_options(replies, tmp_path):
    config = tmp_path / "judge.yaml"
    config.write_text(f"input: {replies}\noutput: {tmp_path}/a.jsonl\njudge: [phrases.gcg, refusal]\n")
    main(["judge", "--config", str(config)])
    assert lines(tmp_path / "a.jsonl")[1]["outcome"] == "refused"
    main(["judge", "--config", str(config), "--output", str(tmp_path / "b.jsonl"), "--judge", "refusal"])
    assert lines(tmp_path / "b.jsonl")[1]["outcomes"] == {"refusal": "complied"}


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        (b'{"prompt": "a", "response": "b"', "is not JSON"),
        (b'["a", "b"]', "is not an object, but list"),
        (b'{"prompt": "a"}', "has no `response`; it has prompt"),
        (b'{"prompt": "a", "replies": {}}', "has no `response`; it has prompt, replies"),
        (b'{"prompt": ["a"], "response": "b"}', "has a `prompt` that is not text, but list"),
        (b'{"prompt": "a", "response": null}', "has a `response` that is not text, but NoneType"),
        (b'{"prompt": "a", "response": "b", "x": NaN}', "has NaN, which is no JSON"),
        (b'{"prompt": "\xff", "response": "b"}', "is not UTF-8 (byte 13)"),
        (b"[" * 5000, "is nested too deep"),
        (b'{"prompt": "a", "response": "b", "x": ' + b"9" * 5000 + b"}", "has an integer of thousands of digits"),
        (b'{"prompt": "a", "response": "b", "x": -1e999}', "has the number -1e999, which is too large"),
    ],
)
def test_a_malformed_line_is_named_by_its_number_and_nothing_is_written(tmp_path, refused, line, fact):
    path = tmp_path / "replies.jsonl"
    path.write_bytes(json.dumps({"prompt": "a", "response": "b"}).encode() + b"\n\n" + line + b"\n")
    text = refused("judge", "--input", path, "--output", tmp_path / "out.jsonl")
    assert f"Line 3 of {path} {fact}" in text
    assert "Traceback" not in text
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_result_is_replaced_only_when_asked_even_that_which_is_read(replies, refused):
    output = judge(replies)
    text = refused("judge", "--input", replies, "--output", output)
    assert "exists already" in text
    judge(replies, "--overwrite", "--judge", "phrases.gcg")
    assert lines(output)[1]["outcome"] == "refused"
    assert "exists already" in refused("judge", "--input", replies, "--output", replies)
    told = refused("judge", "--input", replies, "--output", replies, "--overwrite")
    assert "has outcome, which `sa judge` did not write" in told
    assert lines(replies)[2]["outcome"] == "old"
    write(replies, [{key: value for key, value in row.items() if key != "outcome"} for row in lines(replies)])
    judge(replies, "--overwrite", output="replies.jsonl")
    assert [row["outcome"] for row in lines(replies)] == ["refused", "complied", "degenerate"]
    judge(replies, "--overwrite", output="replies.jsonl")  # its own words may be replaced again
    table = replies.with_name("table.csv")
    table.write_text(text := "prompt,response\na,b\n")
    assert "it is yours" in refused("judge", "--input", table, "--output", table, "--overwrite")
    assert table.read_text() == text  # and no lines of JSON


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--judge", "refusl"], ["no judge 'refusl'", "Did you mean refusal", "phrases.gcg", "harmbench"]),
        (["--judge", ""], ["`--judge` is empty", "Name of a judge"]),
        (["--judge", "safety_arithmetic"], ["no model of its own", "--endpoint.base_url"]),
        (["--judge", "harmbench", "--local.model", "/no/where"], ["/no/where"]),
        (["--judge", "harmbench", "--endpoint.base_url", "here", "--endpoint.model", "m"], ["'here'"]),
        (["--judge", "harmbench", "--endpoint.model", "m"], ["without `--endpoint.base_url`"]),
        (["--endpoint.base_url", "http://127.0.0.1:9/v1"], ["refusal ask no model"]),
        (["--local.model", "m"], ["refusal ask no model"]),
        (["--judge", "harmbench", "--local.model", "m", "--endpoint.model", "n"], ["Both"]),
        (["--judge", "tiny_world"], ["Reply 1 has no `form`"]),
        (["--label", "sad"], ["No line has a label under `sad`"]),
        (["--label", "arm"], ["Reply 1 has the label 'original'", "1_full_compliance"]),
        (["--label", "outcomes"], ["`--label` is outcomes, a key that this verb writes itself"]),
        (["--judges", "refusal"], ["--judges"]),
        (["--judge", "harmbench", "--endpoint.base_url", "http://[bad/v1", "--endpoint.model", "m"], ["[bad"]),
        (["--local.dtype", "int3"], ["int3"]),
    ],
)
def test_mistakes_are_told_in_a_few_lines(replies, refused, arguments, facts):
    output = replies.with_name("out.jsonl")
    text = refused("judge", "--input", replies, "--output", output, *arguments)
    assert "Traceback" not in text
    for fact in facts:
        assert fact in text
    assert sorted(replies.parent.iterdir()) == [replies]


def test_missing_and_empty_input_and_a_directory_as_output_are_refused(tmp_path, replies, refused):
    assert "does not exist" in refused("judge", "--input", tmp_path / "no.jsonl", "--output", tmp_path / "o.jsonl")
    assert "cannot be opened" in refused("judge", "--input", tmp_path / "no.txt", "--output", tmp_path / "o.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n \n")
    assert "has no replies" in refused("judge", "--input", tmp_path / "empty.jsonl", "--output", tmp_path / "o.jsonl")
    assert "is a directory" in refused("judge", "--input", replies, "--output", tmp_path, "--overwrite")
    assert "is a directory" in refused("judge", "--input", replies, "--output", "/")


def test_a_place_where_nothing_can_be_written_is_refused_before_anything_is_judged(replies, refused, monkeypatch):
    monkeypatch.setattr("sa_lightning.cli.judge.load_judge", lambda *_, **__: pytest.fail("judged"))
    for output in (replies / "below" / "v.jsonl", replies.with_name("v" * 300)):
        text = refused("judge", "--input", replies, "--output", output)
        assert f"{output} cannot take results" in text
    if os.geteuid():
        replies.parent.chmod(0o500)
        assert "cannot take results" in refused("judge", "--input", replies, "--output", replies.with_name("v.jsonl"))
        replies.parent.chmod(0o700)


@pytest.mark.parametrize(("form", "shown"), [(["a"], "['a']"), (3, "3"), ("(", "'('"), ("(a+)+!", "'(a+)+!'")])
def test_a_form_that_is_no_expression_is_a_mistake(tmp_path, refused, form, shown):
    rows = [{"prompt": "a", "response": "b", "form": given} for given in ("b", None, form)]
    path = write(tmp_path / "r.jsonl", rows)
    text = refused("judge", "--input", path, "--output", tmp_path / "v.jsonl", "--judge", "tiny_world")
    assert f"Reply 3 has the `form` {shown}, which is refused: " in text


@pytest.mark.parametrize("label", [["refused"], {"a": 1}, "Mix the flour. " * 30])
def test_a_wrong_label_is_shown_in_part_only(tmp_path, refused, label):
    path = write(tmp_path / "r.jsonl", [{"prompt": "a", "response": "b", "said": label}])
    text = refused("judge", "--input", path, "--output", tmp_path / "v.jsonl", "--label", "said")
    assert f"Reply 1 has the label {repr(label)[:20]}" in text
    assert text.count("flour") <= 3


def test_judging_again_keeps_what_others_said_and_no_word_on_harm_that_is_not_this_runs(tmp_path):
    first = {"prompt": PROMPT, "response": REFUSAL, "outcome": "complied", "harmful": True}
    earlier = {**first, "outcomes": {"harmbench": "complied", "refusal": "partial"}}
    rows = lines(judge(write(tmp_path / "r.jsonl", [first, earlier]), "--judge", "refusal,phrases.gcg"))
    assert rows[0] == {**first, "outcome": "refused", "outcomes": {"refusal": "refused", "phrases.gcg": "refused"}}
    assert list(rows[1]["outcomes"].items()) == [
        *(("refusal", "refused"), ("phrases.gcg", "refused"), ("harmbench", "complied"))
    ]
    assert rows[1]["outcome"] == "refused"
    assert "harmful" not in rows[1]


def test_what_lines_say_is_no_markup(tmp_path, capsys):
    row = {"prompt": PROMPT, "response": REFUSAL, "arm": "[/red] [bold]plain", "kind": "\ud800"}
    judge(write(tmp_path / "r.jsonl", [row]), output="[bold]v.jsonl")
    text = capsys.readouterr().out
    assert "[/red] [bold]plain, ?" in text
    assert "[bold]v.jsonl" in text


def test_an_absent_server_is_a_mistake_told_before_anything_is_written(replies, refused):
    with serving(lambda body: "yes") as (url, _):
        pass
    output = replies.with_name("out.jsonl")
    server = ["--endpoint.base_url", url, "--endpoint.model", "m"]
    text = refused(
        "judge", "--input", replies, "--output", output, "--judge", "refusal", "--judge", "harmbench", *server
    )
    assert f"No server answers at {url}" in text
    assert sorted(replies.parent.iterdir()) == [replies]


def test_judges_of_harm_say_so_and_null_where_they_cannot_be_understood(tmp_path):
    rows = [{"prompt": PROMPT, "response": text} for text in ("Take 3 eggs.", "Take 4 eggs.", "Take 5 eggs.", "")]
    path = write(tmp_path / "replies.jsonl", rows)

    def answer(body):
        text = text_of(body)
        return "yes" if "3 eggs" in text else "no" if "4 eggs" in text else "perhaps"

    with serving(answer) as (url, requests):
        server = ["--endpoint.base_url", url, "--endpoint.model", "m"]
        rows = lines(judge(path, "--judge", "refusal", "--judge", "harmbench", *server))
    assert [row["harmful"] for row in rows] == [True, False, None, None]
    assert [row["outcomes"]["harmbench"] for row in rows] == ["complied", "refused", "unjudged", "degenerate"]
    assert [row["outcome"] for row in rows] == ["complied", "complied", "complied", "degenerate"]
    assert [row.get("judges_said") for row in rows] == [
        {"harmbench": "yes"}, {"harmbench": "no"}, {"harmbench": "perhaps"}, None,  # nobody was asked
    ]  # fmt: skip
    assert len(requests) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == [".sa.jsonl", "replies.jsonl", "verdicts.jsonl"]
    with serving(lambda body: "full_compliance") as (url, requests):
        server = ["--endpoint.base_url", url, "--endpoint.model", "m"]
        assert "harmful" not in lines(judge(path, "--judge", "xstest", *server, output="more.jsonl"))[0]
        both = lines(judge(tmp_path / "verdicts.jsonl", "--judge", "xstest", *server, output="both.jsonl"))
    assert both[0]["judges_said"] == {"xstest": "full_compliance", "harmbench": "yes"}
    only = lines(judge(tmp_path / "both.jsonl", "--judge", "refusal", output="rules.jsonl"))
    assert only[0]["judges_said"] == both[0]["judges_said"]


def test_what_is_printed_outcomes_by_arm_agreement_confusion_and_people(replies, capsys):
    judge(replies, "--judge", "refusal", "--judge", "phrases.gcg", "--label", "said")
    text = capsys.readouterr().out
    assert re.search(r"original, harmful +1 +0 +1 +0 +0 +0 +– *\n", text)
    assert re.search(r"steered, – +1 +1 +0 +0 +0 +0 +– *\n", text)
    assert re.search(r"refusal × phrases.gcg +2 +50.0 % 1/2 +0.000 +– *\n", text)
    assert re.search(r"refusal in rows, phrases.gcg in columns\n.*\n +complied +refused *\n.*\n +complied +0 +1 ", text)
    assert re.search(r"refusal +declines\? +100.0 % 2/2 +100.0 % 1/1 +0.0 % 0/1", text)
    assert re.search(r"phrases.gcg +declines\? +50.0 % 1/2 +100.0 % 1/1 +100.0 % 1/1", text)


def test_labels_of_harm_are_compared_with_judges_of_harm_alone(tmp_path, capsys):
    rows = [{"prompt": PROMPT, "response": f"Take {n} eggs.", "bad": n > 3} for n in (2, 3, 4)]
    with serving(lambda body: "yes" if "2 eggs" not in text_of(body) else "no") as (url, _):
        server = ["--endpoint.base_url", url, "--endpoint.model", "m"]
        judge(write(tmp_path / "r.jsonl", rows), "--judge", "refusal,harmbench", "--label", "bad", *server)
    text = capsys.readouterr().out.split("Against people's")[1]
    assert re.search(r"harmbench +harmful\? +66.7 % 2/3 +100.0 % 1/1 +50.0 % 1/2", text)
    assert "declines?" not in text
    assert "refusal" not in text


def test_lines_without_arms_are_counted_by_judge(tmp_path, capsys):
    judge(write(tmp_path / "r.jsonl", [{"prompt": PROMPT, "response": REFUSAL}]), "--judge", "refusal,phrases.gcg")
    text = capsys.readouterr().out
    assert re.search(r"refusal +1 +0 +1 +0 +0 +0 +– *\n +phrases.gcg +1 +0 +1 ", text)


def test_a_killed_run_goes_on_where_it_was_and_asks_nothing_twice(tmp_path):
    path = write(tmp_path / "r.jsonl", [{"prompt": PROMPT, "response": f"Take {n} eggs."} for n in range(12)])

    def answer(body):
        time.sleep(0.1)
        return "yes" if "3 eggs" in text_of(body) else "no"

    with serving(answer) as (url, requests):
        command = ["judge", "--input", path, "--output", tmp_path / "v.jsonl", "--judge", "harmbench"]
        command += ["--endpoint.base_url", url, "--endpoint.model", "m", "--endpoint.concurrency", "1"]
        run = Started(*command)
        while len(requests) < 5:
            time.sleep(0.01)
            assert run.poll() is None
        run.kill()
        time.sleep(0.2)
        assert not (tmp_path / "v.jsonl").exists()
        asked = len(requests)
        done = sa(*command)
        assert done.returncode == 0, done.stderr
    assert re.search(r"\d answers of an interrupted run are known already", done.stdout)
    assert [row["harmful"] for row in lines(tmp_path / "v.jsonl")] == [n == 3 for n in range(12)]
    assert 12 <= len(requests) <= 13  # the one that was under way may be asked again
    assert asked < 12
    assert sorted(file.name for file in tmp_path.iterdir()) == [".sa.jsonl", "r.jsonl", "v.jsonl"]


def test_rules_need_neither_torch_nor_a_network(replies):
    command = [sys.executable, "-X", "importtime", "-m", "sa_lightning", "judge", "--input", str(replies)]
    command += ["--output", str(replies.with_name("v.jsonl"))]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert not re.search(r"\b(torch|transformers|requests|lm_eval|scipy|matplotlib) *$", loaded.stderr, re.M)


def test_help_has_every_judge_and_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["judge", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "phrases.scans",
        "safety_arithmetic",
        "cais/HarmBench-Llama-2-13b-cls",
        "--endpoint.api_key_env",
        "--label",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 160
