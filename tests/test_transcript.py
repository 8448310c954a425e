"""From an empty directory to an aligned adapter: the commands of the page, in order, on the real chat model."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from support import command
from transformers import AutoModelForCausalLM

from sa_lightning.models import load_model
from sa_lightning.testbed.wheels import at_hand

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "settings.md").read_text()
MOST = 10

pytestmark = pytest.mark.real


def commands():
    """Those of the block, each on one line."""
    (block,) = re.findall(r"## From an empty directory to an aligned adapter.*?```bash\n(.*?)```", PAGE, re.S)
    return block.replace("\\\n", " ").splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where all commands of `sa` have been run, from an empty directory; with fewer prompts than the page asks."""
    if at_hand("smol/chat") is None:
        pytest.skip("world:smol/chat is not in the cache: `make model` fetches it")
    here = tmp_path_factory.mktemp("empty")
    for line in commands():
        verb, *words = shlex.split(line)
        if verb == "sa":
            words += ["--limit", "8"] if words[0] in ("finetune", "validate") else []
            done = command.sa(*words, cwd=here, timeout=1200, CUDA_VISIBLE_DEVICES="")
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    return here


def test_there_are_ten_at_most_and_the_first_are_those_of_make_install():
    assert len(commands()) <= MOST
    assert commands()[:3] == ["python3 -m venv env", ". env/bin/activate", "pip install CLONE"]


def test_peft_loads_what_was_aligned_and_it_is_what_was_asked_for(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    exec(shlex.split(commands()[-1])[2])  # the last line, in this process
    assert "lora_A" in capsys.readouterr().out
    aligned = AutoPeftModelForCausalLM.from_pretrained("aligned", dtype=torch.float32)
    ids = torch.tensor([[504, 2050, 282, 4649, 314]])
    plain, units, harm = (
        load_model(name, dtype="float32")
        for name in (aligned.peft_config["default"].base_model_name_or_path, "units", "harm")
    )
    state, wanted = plain.state_dict(), {}
    for name, tensor in state.items():
        wanted[name] = units.state_dict()[name] - (harm.state_dict()[name] - tensor)
    model = AutoModelForCausalLM.from_pretrained(plain.name_or_path, dtype=torch.float32)
    model.load_state_dict(wanted)
    with torch.no_grad():
        torch.testing.assert_close(aligned(ids).logits, model(ids).logits, rtol=0, atol=1e-3)
        assert (aligned(ids).logits - units(ids).logits).abs().max() > 0.1


def test_every_arm_of_it_is_measured(place):
    results = json.loads((place / "measured" / "results.json").read_text())
    assert {"original", "steered", "gated"} <= results["arms"].keys()
    assert all(arm["attack_success"]["n"] == 8 for arm in results["arms"].values())
