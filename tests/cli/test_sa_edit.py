"""Every config of an edit, run on tiny checkpoints; and what a person meets on the way."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from support.command import sa
from support.models import artifact_for, llama, perturbed, saved
from transformers import AutoModelForCausalLM

from sa_lightning.cli import edit
from sa_lightning.errors import SaError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*/edit*.yaml"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the commands in the configs name, in capitals, as paths."""
    root = tmp_path_factory.mktemp("places")
    knowledge = llama()
    knowledge.model.layers[1].mlp.down_proj.weight.data += 0.1
    models = {
        "BASE": llama(), "HARM": perturbed(llama(), 1), "HARM2": perturbed(llama(), 2), "TARGET": perturbed(llama(), 3),
        "UNALIGNED": perturbed(llama(), 4), "EDITED": knowledge,
    }  # fmt: skip
    for name, model in models.items():
        saved(model, root / name)
    artifact_for(llama()).save_pretrained(root / "artifact")
    for name, reply in (("refusals", "sorry , no ."), ("utility", "first bake a cake .")):
        rows = [{"prompt": f"how do i {verb} a cake", "response": reply} for verb in ("bake", "break")]
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    alike = {"ALIGNED": "BASE", "MODEL": "BASE", "FINETUNE": "TARGET", "HARM1": "HARM", "DIR/artifact": "artifact"}
    files = {f"{name}.jsonl": f"{name}.jsonl" for name in ("refusals", "utility")}
    return {name: str(root / place) for name, place in {**{n: n for n in models}, **alike, **files}.items()}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_command_a_config_opens_with_makes_a_checkpoint_that_loads(path, places, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(places["refusals.jsonl"]).parent)
    (line,) = (line for line in path.read_text().splitlines() if "sa edit --config" in line)
    words = shlex.split(line.removeprefix("#"))[2:]

    def placed(word):
        if word == "O":
            return str(tmp_path / "out")
        if word.startswith("["):  # a list: '[HARM1, HARM2]'
            return re.sub(r"[A-Z]+\d*", lambda match: places[match[0]], word)
        return {**places, "12": "2"}.get(word, word)  # a layer of a model that has three

    edit.run([placed(word) for word in words])
    report = json.loads((tmp_path / "out" / "surgery.json").read_text())
    assert report["changed"] > 0
    assert report["command"].startswith("sa edit --config")
    target = places.get("EDITED" if "knowledge" in path.stem else "TARGET" if "TARGET" in line else "BASE")
    if "FINETUNE" in line:
        target = places["TARGET"]
    before, after = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (target, tmp_path / "out"))
    differing = sum(int((before[name] != after[name]).sum()) for name in before)
    assert differing == report["changed"]


def test_an_adapter_is_a_harm_model_and_a_target(places, tmp_path):
    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    model.peft_config["default"].base_model_name_or_path = places["BASE"]
    model.save_pretrained(tmp_path / "adapter")
    adapter, out = str(tmp_path / "adapter"), tmp_path / "out"
    edit.run(["--base", places["BASE"], "--harm", adapter, "--target", adapter, "--density", "1", "--scale", "1",
              "--output", str(out)])  # fmt: skip
    base, back = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (places["BASE"], out))
    assert all(torch.allclose(base[name], back[name], atol=1e-5) for name in base)


def test_the_summary_says_what_was_done_and_a_stranger_is_warned_of(places, tmp_path, capsys):
    llama(seed=9).save_pretrained(tmp_path / "stranger")
    edit.run(["--base", places["BASE"], "--harm", str(tmp_path / "stranger"), "--output", str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().out.split())
    assert "subtract 2 × (harm − base)" in said
    assert "Warning:" in said
    assert "does not look related to" in said


def test_the_first_block_has_a_direction_too(places, tmp_path):
    artifact = artifact_for(llama())
    artifact.save_pretrained(tmp_path / "artifact")
    edit.run(["--base", places["BASE"], "--direction", str(tmp_path / "artifact"), "--direction_layer", "0",
              "--output", str(tmp_path / "out")])  # fmt: skip
    r = artifact.rules["pairs"].directions["original"][0]
    out = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert float((r @ out.model.layers[2].mlp.down_proj.weight.detach()).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--density", "10"], "To keep ten percent, write 0.1"),
        (["--scale", "-1"], "would add the harm"),
        (["--select", "snip"], "--prompts"),
        (["--prompts", "x.jsonl"], "select: snip"),
        (["--scope.layers", "[5, 9]"], "Its blocks are 0 to 2"),
        (["--scope.exclude", "[nothing*]"], "matches no parameter"),
        (["--scope.edit_area", "true"], "none does"),
        (["--operator", "restore"], "they are the same"),
        (["--direction", "x"], "harm and direction"),
        (["--minus.density", "0.1"], "minus.prompts"),
        (["--harm", "no/such-model"], "no/such-model"),
        (["--select", "snip", "--prompts", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--select", "snip", "--scores", "nowhere"], "nowhere, which does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_message_and_leaves_nothing(places, tmp_path, arguments, fact):
    with pytest.raises(SaError) as error:
        edit.run(["--base", places["BASE"], "--harm", places["HARM"], "--output", str(tmp_path / "out"), *arguments])
    assert fact in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_scores_and_directions_are_not_written_over(places, tmp_path):
    vectors = {"r": torch.randn(32)}
    (tmp_path / "mine").mkdir()
    save_file(vectors, tmp_path / "mine" / "r.safetensors")
    (tmp_path / "mine" / "config.json").write_text("{}")
    arguments = ["--base", places["BASE"], "--direction", str(tmp_path / "mine" / "r.safetensors")]
    with pytest.raises(SaError, match="which is read"):
        edit.run([*arguments, "--output", str(tmp_path / "mine"), "--overwrite"])
    assert (tmp_path / "mine" / "r.safetensors").exists()


def test_exit_status_is_2_without_a_traceback_for_a_mistake(places, tmp_path):
    done = sa("edit", "--base", places["BASE"], "--harm", places["BASE"], "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "is zero" in done.stderr
    assert "Traceback" not in done.stderr
