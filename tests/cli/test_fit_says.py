"""What `sa fit` prints and draws of gates and words."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console
from support.command import sa
from support.models import WORDS

from sa_lightning.cli.common.fitted import say_gates, say_vocabulary

SA = Path(sys.executable).with_name("sa")


def said(function, tmp_path, **artifact):
    steering = SimpleNamespace(artifact=SimpleNamespace(**artifact), unused_kinds={"a.jsonl": {"sums": 3}})
    console = Console(file=io.StringIO(), width=160)
    function(steering, tmp_path, console)
    return console.file.getvalue()


def gated(sets):
    settings = SimpleNamespace(recall=0.9)
    return SimpleNamespace(
        gate={"sets": sets} if sets else None,
        gate_settings=settings,
        finds=lambda: "harmful",
        gate_kinds=lambda side: [side],
    )


def test_a_gate_is_drawn_for_each_part_and_set_of_weights_as_far_as_it_was_recorded(tmp_path):
    told = {"threshold": 0.5, "held_out": 4, "auroc": 1.0, "found": [2, 2], "others": [0, 2]}
    layers = {"layer_auroc": {"layers": [1, 2], "auroc": [0.5, 1.0]}}
    sets = {"original": told | layers, "edited": told | layers}
    text = said(say_gates, tmp_path, together={"": gated(sets), "spare": gated(sets)})
    drawn = ["gate-edited.svg", "gate-spare-edited.svg", "gate-spare.svg", "gate.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == drawn
    assert text.count("each layer alone") == 4
    assert "Gate of spare, edited weights" in text
    assert ".svg" not in said(say_gates, tmp_path, together={"": gated({"original": told})})
    assert not list(tmp_path.iterdir())  # nothing of an earlier fit stays
    assert said(say_gates, tmp_path, together={"": gated(None)}) == (
        "No gate and no part is fitted on these kinds of a.jsonl: sums (3).\n"
    )


def test_who_is_spared_first_and_each_joined_gate_are_said(tmp_path):
    told = {"threshold": 0.5, "held_out": 4, "auroc": 1.0, "found": [50, 100], "others": [0, 20]}
    told["spares"] = {"found": [29, 30], "steered": [1, 30], "spared": {"found": [45, 100], "others": [2, 20]}}
    text = said(say_gates, tmp_path, together={"": gated({"original": told})})
    assert "Spared before that: 29/30 spares, of which 1 are steered nonetheless; and 45 harmful and 2 others" in text
    assert "A recall of 0.9 was asked for: 45 of 100 are spared first" in text
    told["found"] = [90, 100]
    assert "was asked for" not in said(say_gates, tmp_path, together={"": gated({"original": told})})
    single = {"threshold": 0.25, "auroc": 0.75, "found": [9, 10], "others": [1, 10]}
    joined = {**told, "joined": {"harmful": single, "contrast": single}}
    text = said(say_gates, tmp_path, together={"": gated({"original": joined})})
    assert "that for contrast: from 0.25 on, 9/10 of them and 1/10 others; AUROC 0.750" in text


def test_words_are_printed_as_they_are(tmp_path):
    one = {
        "layers": [0, 1], "score": 0.5, "tokens": ["[/INST]", " no"], "logits": [2.0, 1.0], "refusal": [False, True],
        "opposite": ["[red]", "\n"],
    }  # fmt: skip
    text = said(say_vocabulary, tmp_path, extraction={"vocabulary": {"edited": {"steered": 0, "segments": [one]}}})
    for fact in ("edited weights", "0 to 1", "50 %", "[/INST] ␣no", "[red] \\n", "yes", "vocabulary.svg"):
        assert fact in text
    assert (tmp_path / "vocabulary.svg").is_file()
    assert said(say_vocabulary, tmp_path, extraction={}) == ""
    assert not (tmp_path / "vocabulary.svg").exists()


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
