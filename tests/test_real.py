"""The same verbs on a real trained model and real text. It tells children's stories: this proves plumbing only."""

import json
import sys
from pathlib import Path

import pytest
from support import command
from support.real import real

SA = Path(sys.executable).with_name("sa")
pytestmark = pytest.mark.real


def sa(*arguments):
    done = command.sa(*arguments, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_direction_from_real_pairs_steers_a_real_model_on_real_prompts(tmp_path):
    model = real("SA_MODELS_DIR", "stories260K-llama")
    pairs = real("SA_DATA_DIR", "hh_rlhf_harmless_test", "test.jsonl.gz")
    real("SA_DATA_DIR", "advbench", "harmful_behaviors.csv")
    real("SA_DATA_DIR", "xstest", "xstest_prompts.csv")
    common = ["--model.target", model, "--template", "plain"]
    text = sa(
        *("fit", "--config", "configs/safety_arithmetic/fit_hh_rlhf.yaml", *common),
        *("--data.demonstrations", pairs, "--data.limit", "64", "--output", tmp_path / "fit"),
    )
    artifact = json.loads((tmp_path / "fit" / "artifact" / "sa_config.json").read_text())
    assert artifact["demonstrations"]["pairs"] == 64
    assert artifact["demonstrations"]["truncated"] > 0
    assert "sequences cut on the left" in text
    sa(
        *("validate", "--config", "configs/safety_arithmetic/validate.yaml", *common, "--limit", "6"),
        *("--artifact", tmp_path / "fit" / "artifact", "--output", tmp_path / "measured"),
    )
    results = json.loads((tmp_path / "measured" / "results.json").read_text())
    assert list(results["arms"]) == ["original", "steered"]
    assert results["arms"]["original"]["attack_success"]["n"] == 12
    assert results["arms"]["original"]["over_refusal"]["n"] == 6


def test_steering_changes_what_the_real_model_says(tmp_path):
    model = real("SA_MODELS_DIR", "stories260K-llama")
    pairs = real("SA_DATA_DIR", "hh_rlhf_harmless_test", "test.jsonl.gz")
    common = ["--model.target", model, "--template", "plain"]
    sa(
        *("fit", "--config", "configs/safety_arithmetic/fit_hh_rlhf.yaml", *common, "--data.limit", "32"),
        *("--data.demonstrations", pairs, "--output", tmp_path / "fit"),
    )
    sa(
        *("predict", *common, "--artifact", tmp_path / "fit" / "artifact", "--output", tmp_path / "replies"),
        *("--data.prompts", '["Once upon a time", "Tom had a red ball"]'),
    )
    rows = [json.loads(line) for line in (tmp_path / "replies" / "predictions.jsonl").read_text().splitlines()]
    for row in rows:
        assert len(row["replies"]["original"].split()) > 5
        assert row["replies"]["original"] != row["replies"]["steered"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_edit_of_a_real_model_differs_only_where_its_harm_vector_was_selected(tmp_path, dtype):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = real("SA_MODELS_DIR", "stories260K-llama")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
    if dtype != "float32":
        model.save_pretrained(tmp_path / "base")
        AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "base")
        base = tmp_path / "base"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = AutoTokenizer.from_pretrained(base)("Tom took the red ball from the dog and ran away", return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(12):  # a stand-in for a harmful fine-tune
        model(**{**tokens, "labels": tokens["input_ids"]}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "harm")
    sa("edit", "--base", base, "--harm", tmp_path / "harm", "--output", tmp_path / "out", "--density", "0.1")
    report = json.loads((tmp_path / "out" / "surgery.json").read_text())
    edited = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert edited.dtype == getattr(torch, dtype)
    after, selected, changed = edited.state_dict(), 0, 0
    for name, tensor in model.state_dict().items():
        if name in ("lm_head.weight",):  # tied
            continue
        delta = tensor.float() - before[name].float()
        inside = delta.abs() >= report["threshold"]
        differs = after[name] != before[name]
        assert not (differs & ~inside).any()
        selected, changed = selected + int(inside.sum()), changed + int(differs.sum())
        stepped = (before[name].float() - 2 * delta).to(tensor.dtype)
        assert torch.equal(after[name][differs], stepped[differs])
    assert changed == report["changed"]
    assert report["k"] == int(0.1 * report["n"] + 0.5) <= selected
    AutoTokenizer.from_pretrained(tmp_path / "out")
