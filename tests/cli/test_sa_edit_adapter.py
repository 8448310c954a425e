"""`sa edit --format adapter`, as it is typed."""

import json

import pytest
from peft import LoraConfig, get_peft_model
from support.models import llama, perturbed, saved

from sa_lightning.cli import edit
from sa_lightning.errors import SaError


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    saved(llama(), root / "base")
    perturbed(llama(), 1).save_pretrained(root / "harm")
    adapter = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapter.peft_config["default"].base_model_name_or_path = str(root / "base")
    adapter.save_pretrained(root / "lora")
    return root


def test_what_is_printed_says_exact_or_truncated_and_an_edit_of_either_kind_is_replaced(places, tmp_path, capsys):
    common = ["--base", str(places / "base"), "--output", str(tmp_path / "out"), "--density", "1"]
    lora, full = ["--harm", str(places / "lora")], ["--harm", str(places / "harm")]

    def said(*arguments):
        edit.run([*common, *arguments])
        return " ".join(capsys.readouterr().out.split())

    found = said(*lora, "--format", "adapter")
    assert "3 matrices (3 of rank 2); 384 parameters, 1.5 kB. It is exact" in found
    assert "PEFT adapter" in found
    found = said(*full, "--format", "adapter", "--rank", "4", "--overwrite")
    assert "It is truncated:" in found
    assert "% of the length of edited − base is lost" in found
    report = json.loads((tmp_path / "out" / "surgery.json").read_text())
    assert report["adapter"]["relative_error"] > 0.5
    assert report["changed"] > 0
    assert report["command"].endswith("--format adapter --rank 4 --overwrite")
    assert "edited checkpoint" in said(*lora, "--overwrite")
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert "PEFT adapter" in said(*lora, "--format", "adapter", "--overwrite")
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--rank", "8"], "a checkpoint has no rank"),
        (["--format", "adapter"], "--rank 16: an error of about"),
        (["--format", "adapter", "--rank", "0"], "a matrix of rank 0 is zero"),
        (["--format", "adapter", "--rank", "8", "--dtype", "float16"], "the base's own type"),
    ],
)
def test_a_mistake_is_told_and_leaves_nothing(places, tmp_path, arguments, fact):
    harm = ["--harm", str(places / "harm"), "--output", str(tmp_path / "out")]
    with pytest.raises(SaError) as error:
        edit.run(["--base", str(places / "base"), *harm, *arguments])
    assert fact in str(error.value)
    assert list(tmp_path.iterdir()) == []
