"""`sa` as a person types it: a process of its own, its output read, its exit status checked."""

import json
import re
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from support.command import sa
from support.models import llama, perturbed, saved, word_tokenizer

TRAINER = ["--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def micro(worlds, tmp_path_factory):
    """The quickstart on a world that has learned nothing: all of the plumbing, none of the wait."""
    output = tmp_path_factory.mktemp("runs") / "first"
    done = sa("quickstart", "--world", "micro", "--output", output, SA_CACHE_DIR=str(worlds), fresh=True)
    assert done.returncode == 0, done.stderr
    return {"cache": str(worlds), "output": output, "text": done.stdout}


def test_help_is_quick_and_imports_neither_torch_nor_lightning():
    began = time.perf_counter()
    done = sa("--help", fresh=True)
    assert time.perf_counter() - began < 2
    assert done.returncode == 0
    for verb in ("quickstart", "fit", "validate", "predict", "edit", "sweep"):
        assert re.search(rf"^  {verb} ", done.stdout, re.M)
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sa_lightning", "--help"], capture_output=True, text=True, check=True
    ).stderr
    assert not re.search(r"\b(torch|lightning|transformers)\b", loaded)


@pytest.mark.parametrize("verb", ["fit", "validate", "predict", "edit", "sweep", "quickstart"])
def test_every_option_of_ours_is_explained(verb):
    done = sa(verb, "--help")
    assert done.returncode == 0
    blocks = re.findall(
        r"^  --((?:model|data|surgery|steering|evaluation|prediction)\.[\w.]+)(.*(?:\n {10}.*)*)", done.stdout, re.M
    )
    assert verb in ("edit", "quickstart") or len(blocks) > 8
    bare = [name for name, text in blocks if len(re.findall(r"\b[a-z]{2,}\b", re.sub(r"\([^)]*\)", "", text))) < 1]
    assert not bare


def test_an_unknown_verb_and_an_unknown_option_name_themselves():
    done = sa("algin")
    assert (done.returncode, "no verb `algin`" in done.stderr) == (2, True)
    done = sa("fit", "--model.target", "x", "--data.demonstrations", "y", "--output", "z", "--steering.strengh", "1")
    assert done.returncode == 2
    assert "--steering.strengh" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_config_key_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("steering:\n  strenght: 0.1\n")
    done = sa(
        "fit", "--config", tmp_path / "c.yaml", "--model.target", "x", "--data.demonstrations", "y", "--output", "z"
    )
    assert done.returncode == 2
    assert "strenght" in done.stderr


def test_quickstart_ends_with_the_table_the_files_and_three_commands(micro):
    for fact in ("edited+steered", "report.html", "results.json", "sa predict", "sa validate", "sa fit"):
        assert fact in micro["text"]
    results = json.loads((micro["output"] / "results.json").read_text())
    assert list(results["arms"]) == ["original", "steered", "edited", "edited+steered"]
    assert results["model"] == "world:micro/chat"
    assert (
        json.loads((micro["output"] / "fit" / "artifact" / "sa_config.json").read_text())["model"] == "world:micro/chat"
    )
    assert results["command"].startswith("sa quickstart --world micro")
    assert {"world", "fit", "load"} <= results["seconds"].keys()
    assert {"schema", "command", "versions", "seed", "model", "judge", "arms", "paired", "seconds"} <= set(results)
    assert set(results["hashes"]) >= {"weights, original", "weights, edited", "demonstrations"}
    assert "edited+steered" in (micro["output"] / "results.md").read_text()


def test_the_same_seed_twice_gives_the_same_numbers(micro, tmp_path):
    done = sa("quickstart", "--world", "micro", "--output", tmp_path / "again", SA_CACHE_DIR=micro["cache"])
    assert done.returncode == 0, done.stderr
    first, again = (
        json.loads((output / "results.json").read_text()) for output in (micro["output"], tmp_path / "again")
    )
    for key in ("arms", "paired", "seed", "judge"):
        assert first[key] == again[key]
    names = ("fit/artifact/steering.safetensors", "fit/edited/model.safetensors")
    for name in names:
        assert (micro["output"] / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_quickstart_takes_the_lora_fine_tune_too(micro, tmp_path):
    done = sa(
        "quickstart", "--world", "micro", "--target", "sft", "--output", tmp_path / "sft", SA_CACHE_DIR=micro["cache"]
    )
    assert done.returncode == 0, done.stderr
    artifact = json.loads((tmp_path / "sft" / "fit" / "artifact" / "sa_config.json").read_text())
    assert artifact["surgery"]["base"].endswith("/chat")
    assert (tmp_path / "sft" / "fit" / "edited" / "config.json").is_file()
    assert sa("quickstart", "--target", "nope", "--output", tmp_path / "x").returncode == 2


def test_results_are_not_written_over_by_accident(micro):
    before = (micro["output"] / "results.json").stat().st_mtime_ns
    done = sa("quickstart", "--world", "micro", "--output", micro["output"], SA_CACHE_DIR=micro["cache"])
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert (micro["output"] / "results.json").stat().st_mtime_ns == before


def test_the_card_of_the_artifact_holds_the_numbers(micro):
    card = (micro["output"] / "fit" / "artifact" / "README.md").read_text()
    assert "edited+steered" in card
    assert "| original | 0 |" in card


def test_predict_writes_replies_side_by_side(micro, tmp_path):
    done = sa(
        *("predict", "--config", "configs/tiny/predict.yaml", "--model.target", "world:micro/chat"),
        *("--artifact", micro["output"] / "fit" / "artifact", "--output", tmp_path / "replies"),
        *("--data.file", "world:micro/data/validation.jsonl"),
        cwd=tmp_path,
        SA_CACHE_DIR=micro["cache"],
    )
    assert done.returncode == 0, done.stderr
    predictions = tmp_path / "replies" / "predictions.jsonl"
    assert predictions.stat().st_mode & 0o077 == 0  # replies to harmful prompts are for their owner alone
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert len(rows) == 8
    assert list(rows[0]["replies"]) == ["original", "steered", "edited", "edited+steered"]


def test_validate_adds_random_directions_as_controls(micro, tmp_path):
    done = sa(
        *("validate", "--config", "configs/tiny/validate.yaml", "--model.target", "world:micro/chat"),
        *("--evaluation.metadata.world", "world:micro", "--evaluation.tasks", "[tiny_world_harmful]"),
        *("--artifact", micro["output"] / "fit" / "artifact", "--output", tmp_path / "controls"),
        *("--data.random_directions", "2", "--data.arms", "[original,steered]", "--limit", "3"),
        SA_CACHE_DIR=micro["cache"],
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "controls" / "results.json").read_text())
    assert list(results["arms"]) == ["original", "steered", "random-1", "random-2"]
    assert results["arms"]["random-1"]["attack_success"]["n"] == 3
    assert {(row["a"], row["b"]) for row in results["paired"]} == {("original", "steered")}


def test_two_processes_measure_what_one_measures(micro, tmp_path):
    found = []
    for devices in ("1", "2"):
        done = sa(
            *("validate", "--config", "configs/tiny/validate.yaml", "--model.target", "world:micro/chat", *TRAINER),
            *("--evaluation.metadata.world", "world:micro", "--artifact", micro["output"] / "fit" / "artifact"),
            *("--output", tmp_path / devices, "--trainer.devices", devices, "--limit", "5"),
            *("--data.arms", "[original,steered,edited]"),  # three: they do not divide
            SA_CACHE_DIR=micro["cache"],
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / devices / "validate.json").read_text())["processes"] == int(devices)
        found.append(json.loads((tmp_path / devices / "results.json").read_text()))
    assert found[0]["arms"] == found[1]["arms"]
    assert list(found[0]["arms"]) == list(found[1]["arms"])


@pytest.fixture(scope="module")
def places(checkpoints, demonstrations, tmp_path_factory):
    """Inputs that are wrong in one way each."""
    root = tmp_path_factory.mktemp("wrong")
    saved(llama(), root / "untemplated", word_tokenizer(None))
    broken = perturbed(llama(), seed=1)
    with torch.no_grad():
        broken.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    broken.save_pretrained(root / "nan")
    (root / "empty.jsonl").write_text("")
    for name, part in (("strong", "{strength: 1.5}"), ("lost", "{gate: {kind: linear, ramp: -1}}")):
        text = f"steering:\n  rules:\n    refuse: {part}\n"
        (root / f"{name}.yaml").write_text(text)
    (root / "onesided.jsonl").write_text('{"question": "q", "safe": "s"}\n')
    return {
        "good": checkpoints / "base",
        "harm": checkpoints / "harm",
        "other": checkpoints / "other",
        "pairs": demonstrations,
        "root": root,
    }


WRONG = {
    "missing checkpoint": (["--model.target", "{root}/nowhere"], "does not exist"),
    "missing harm model": (["--surgery.harm", "{root}/nowhere"], "does not exist"),
    "shape mismatch": (["--surgery.harm", "{other}"], "scope.exclude"),
    "no chat template": (["--model.target", "{root}/untemplated"], "--template plain"),
    "empty demonstrations": (["--data.demonstrations", "{root}/empty.jsonl"], "holds no demonstrations"),
    "one-sided demonstrations": (["--data.demonstrations", "{root}/onesided.jsonl"], "has no unsafe answer"),
    "density of ten": (["--surgery.density", "10"], "To keep ten percent, write 0.1"),
    "strength of two": (["--steering.strength", "2"], "fraction of the norm of the state"),
    "NaN weights": (["--surgery.harm", "{root}/nan"], "layers.0.mlp.up_proj"),
    "harm equals base": (["--surgery.harm", "{good}"], "nothing changed"),
    "layer too high": (["--steering.layers", "[7]"], "has 3 layers, 0 to 2"),
    "rule too strong": (["--config", "{root}/strong.yaml"], "`steering.rules.refuse`: `strength` is 1.5"),
    "gate of a rule": (["--config", "{root}/lost.yaml"], "`--steering.rules.refuse.gate.ramp` must be finite and at"),
    "two passes too many": (["--trainer.max_epochs", "5"], "one pass for each state of the weights"),
    "two types": (["--surgery.dtype", "bfloat16"], "--model.dtype"),
    "unknown world": (["--model.target", "world:huge/chat"], "There is no world called 'huge'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_with_its_remedy_before_anything_is_written(case, places, tmp_path):
    changes, fact = WRONG[case]
    done = sa(
        *("fit", "--model.target", places["good"], "--surgery.harm", places["harm"], *TRAINER),
        *("--data.demonstrations", places["pairs"], "--steering.strength", "0.12", "--output", tmp_path / "out"),
        *(change.format(**places) for change in changes),
    )
    assert done.returncode == 2, done.stderr
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_overwriting_a_fit_leaves_no_checkpoint_of_an_earlier_one(places, tmp_path):
    typed = ["fit", "--model.target", places["good"], "--data.demonstrations", places["pairs"], *TRAINER]
    typed += ["--steering.strength", "0.12", "--output", tmp_path / "out", "--overwrite"]
    done = sa(*typed, "--surgery.harm", places["harm"])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "edited").is_dir()
    done = sa(*typed)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out" / "edited").exists()
    assert "edited" not in done.stdout


def test_weights_that_the_artifact_does_not_know_are_refused_before_an_arm_is_measured(micro, places, tmp_path):
    """Another seed's model has the same shape; one process or two."""
    for devices in ("1", "2"):
        done = sa(
            *("validate", "--config", "configs/tiny/validate.yaml", "--model.target", "world:micro/base", *TRAINER),
            *("--evaluation.metadata.world", "world:micro", "--output", tmp_path / devices, "--limit", "2"),
            *("--artifact", micro["output"] / "fit" / "artifact", "--trainer.devices", devices),
            SA_CACHE_DIR=micro["cache"],
        )
        assert done.returncode == 2, done.stderr
        assert "was fitted on other weights" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / devices).exists()


def test_a_partial_measurement_does_not_reach_the_card(micro, tmp_path):
    card = micro["output"] / "fit" / "artifact" / "README.md"
    before = card.read_text()
    done = sa(
        *("validate", "--config", "configs/tiny/validate.yaml", "--model.target", "world:micro/chat"),
        *("--evaluation.metadata.world", "world:micro", "--limit", "1", "--steering.strength", "0.5"),
        *("--artifact", micro["output"] / "fit" / "artifact", "--output", tmp_path / "out"),
        SA_CACHE_DIR=micro["cache"],
    )
    assert done.returncode == 0, done.stderr
    assert card.read_text() == before
    done = sa(*("validate", "--config", "configs/tiny/validate.yaml", "--output", tmp_path / "x", "--limit", "0"))
    assert (done.returncode, "at least 1" in done.stderr) == (2, True)


def test_another_models_artifact_is_refused_by_validate(micro, places, tmp_path):
    done = sa(
        *("validate", "--config", "configs/tiny/validate.yaml", "--model.target", places["good"]),
        *("--evaluation.metadata.world", "world:micro"),
        *("--artifact", micro["output"] / "fit" / "artifact", "--output", tmp_path / "out"),
        SA_CACHE_DIR=micro["cache"],
    )
    assert done.returncode == 2
    assert "This artifact was fitted on" in done.stderr
    assert not (tmp_path / "out").exists()


def test_edit_writes_a_checkpoint_that_transformers_loads(places, tmp_path):
    from transformers import AutoModelForCausalLM

    done = sa(
        *("edit", "--base", places["good"], "--harm", places["harm"], "--output", tmp_path / "edited"),
        *("--density", "0.25", "--scale", "1.5", "--scope.exclude", "['*norm*']"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "edited" / "surgery.json").read_text())
    assert report["k"] == int(0.25 * report["n"] + 0.5)
    assert report["command"].startswith("sa edit --base")
    AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    before, after = (load_file(path / "model.safetensors") for path in (places["good"], tmp_path / "edited"))
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    again = sa("edit", "--base", places["good"], "--harm", places["harm"], "--output", tmp_path / "edited")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_print_config_can_be_read_back(places, tmp_path):
    typed = ["--config", "configs/safety_arithmetic/fit.yaml", "--config", "configs/models/llama2_7b_chat.yaml"]
    rest = ["--data.demonstrations", places["pairs"], "--output", "x"]
    done = sa("fit", *typed, *rest, "--print_config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "all.yaml").write_text(done.stdout)
    again = sa("fit", "--config", tmp_path / "all.yaml", "--print_config")
    assert again.stdout == done.stdout
    assert "target: meta-llama/Llama-2-7b-chat-hf" in done.stdout
    assert "strength: auto" in done.stdout


def test_the_reading_of_the_authors_code_runs_from_its_config(places, tmp_path):
    done = sa(
        *("fit", "--config", "configs/safety_arithmetic/fit_reference_code.yaml", "--template", "question_answer"),
        *("--model.target", places["root"] / "untemplated", "--surgery.harm", places["harm"], *TRAINER),
        *("--data.demonstrations", places["pairs"], "--output", tmp_path / "out", "--no-save-edited"),
    )
    assert done.returncode == 0, done.stderr
    artifact = json.loads((tmp_path / "out" / "artifact" / "sa_config.json").read_text())
    assert (artifact["site"], artifact["intervention"]) == ("mlp", "add_keep_norm_adaptive")
    assert artifact["template"] == "question_answer"
    assert not (tmp_path / "out" / "edited").exists()
