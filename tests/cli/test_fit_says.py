"""What `sa fit` prints and draws of gates and words."""

import io
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from support.command import sa
from support.models import WORDS, artifact_for, llama, rule_for

from sa_lightning.cli.common.fitted import say_gates, say_unused, say_vocabulary
from sa_lightning.cli.fit import _next
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.steering import FittedGate, GateRecord, GateSettings, GateState
from sa_lightning.steering.gates.record import ExemptRecord


def said(function, *about):
    console = Terminal(file=io.StringIO(), width=160)
    function(*about, console)
    return console.file.getvalue()


def gated(**records):
    """An artifact's rules, by name, with the records of their gates by set of weights."""
    settings = GateSettings("linear", recall=0.9, positive=["harmful"], exempt=["wrapped"])
    rules = {
        name: rule_for(llama(), gate=FittedGate(settings, {key: GateState({}, one) for key, one in sets.items()}))
        for name, sets in records.items()
    }
    return SimpleNamespace(gated=rules)


TOLD = GateRecord(0.5, held_out=4, auroc=1.0, positive=(2, 2), negative=(0, 2))


def test_a_gate_is_drawn_for_each_rule_and_set_of_weights_as_far_as_it_was_recorded(tmp_path):
    drawn = replace(TOLD, layer_auroc={"layers": [1, 2], "auroc": [0.5, 1.0]})
    sets = {"original": drawn, "edited": drawn}
    text = said(say_gates, gated(pairs=sets, spare=sets), tmp_path)
    files = ["gate-edited.svg", "gate-spare-edited.svg", "gate-spare.svg", "gate.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert text.count("each layer alone") == 4
    assert "Gate of spare, edited weights" in text
    assert ".svg" not in said(say_gates, gated(pairs={"original": TOLD}), tmp_path)
    assert said(say_gates, gated(), tmp_path) == ""
    assert said(say_unused, SimpleNamespace(unused={"a.jsonl": {"sums": 3}})) == (
        "No gate and no rule is fitted on these kinds of a.jsonl: sums (3).\n"
    )
    assert said(say_unused, None) == ""


def test_who_is_exempted_first_and_each_joined_gate_are_said(tmp_path):
    first = ExemptRecord(0.0, positive=(29, 30), steered=(1, 30), exempted={"positive": (45, 100), "negative": (2, 20)})
    told = replace(TOLD, positive=(50, 100), negative=(0, 20), exempt=first)
    text = said(say_gates, gated(pairs={"original": told}), tmp_path)
    assert (
        "Exempted before that: 29/30 wrapped, of which 1 are steered nonetheless; and 45 harmful and 2 others" in text
    )
    assert "A recall of 0.9 was asked for: 45 of 100 are exempted first" in text
    told = replace(told, positive=(90, 100))
    assert "was asked for" not in said(say_gates, gated(pairs={"original": told}), tmp_path)
    single = GateRecord(0.25, auroc=0.75, positive=(9, 10), negative=(1, 10))
    joined = replace(told, joined={"harmful": single, "contrast": single})
    text = said(say_gates, gated(pairs={"original": joined}), tmp_path)
    assert "that for contrast: from 0.25 on, 9/10 of them and 1/10 others; AUROC 0.750" in text


def test_words_are_printed_as_they_are(tmp_path):
    one = {
        "layers": [0, 1], "score": 0.5, "tokens": ["[/INST]", " no"], "logits": [2.0, 1.0], "refusal": [False, True],
        "opposite": ["[red]", "\n"],
    }  # fmt: skip
    vocabulary = {"edited": {"steered": 0, "segments": [one]}}
    text = said(say_vocabulary, artifact_for(llama(), extraction={"vocabulary": vocabulary}), tmp_path)
    for fact in ("edited weights", "0 to 1", "50 %", "[/INST] ␣no", "[red] \\n", "yes", "vocabulary.svg"):
        assert fact in text
    assert (tmp_path / "vocabulary.svg").is_file()
    assert said(say_vocabulary, artifact_for(llama()), tmp_path) == ""


def test_sa_fit_chooses_layers_by_words_of_ones_own(checkpoints, demonstrations, tmp_path):
    done = sa(
        *("fit", "--model.target", checkpoints / "base", "--data.demonstrations", demonstrations),
        *("--steering.strength", "0.12"),
        *("--output", tmp_path / "out", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
        *("--steering.segment", "vocabulary", "--steering.refusal_words", json.dumps(WORDS)),
    )
    assert done.returncode == 0, done.stderr
    assert "Words that the directions write, original weights" in done.stdout
    record = json.loads((tmp_path / "out" / "artifact" / "sa_config.json").read_text())
    vocabulary = record["extraction"]["vocabulary"]["original"]
    assert record["layers"]["original"] == vocabulary["segments"][vocabulary["steered"]]["layers"]
    assert (tmp_path / "out" / "vocabulary.svg").is_file()


def test_the_next_command_is_one_that_a_shell_takes():
    model = SimpleNamespace(template="chat", dtype_name="auto", revision=None, blocks_path=None, quantization=None)
    model.template_arguments, model.system_prompt = {"enable_thinking": False}, "Don't."
    config = SimpleNamespace(model=SimpleNamespace(tokenizer="my tokenizer"), seed_everything=3)
    cli = SimpleNamespace(target_as_written="base + my adapter*0.7", model=model, config=config)
    words = shlex.split(_next(cli, Path("my runs/a")))
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given == {
        "--config": "configs/safety_arithmetic/validate.yaml",
        "--model.target": "base + my adapter*0.7",
        "--template": "chat",
        "--model.tokenizer": "my tokenizer",
        "--model.template_arguments": '{"enable_thinking": false}',
        "--model.system_prompt": "Don't.",
        "--artifact": "my runs/a/artifact",
        "--output": "my runs/a-measured",
    }
