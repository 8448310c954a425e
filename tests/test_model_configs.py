"""Each model of `configs/models`, in both readings of Safety Arithmetic, on a twin with few parameters."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.published import EDITED, PUBLISHED
from transformers import AutoModelForCausalLM

from sa_lightning import SteeringArtifact, steer
from sa_lightning.cli import main
from sa_lightning.cli.fit import FitCLI
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import SaError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
READINGS = ("paper", "reference_code")
PLACES = ("llamamath", "llama2_7b_chat_edited_intentional", "llama2_7b_chat_edited_unintentional", "gpt_oss_20b")
DENSITY = 0.1


def settings_of(name):
    return yaml.safe_load((CONFIGS / "models" / f"{name}.yaml").read_text())


def fit(name, reading, *arguments):
    """What is typed: the reading first, then the model. The authors' code uses no chat template."""
    configs = CONFIGS / "safety_arithmetic" / f"fit_{reading}.yaml", CONFIGS / "models" / f"{name}.yaml"
    typed = [word for path in configs for word in ("--config", str(path))]
    if reading == "reference_code":
        typed += ["--template", "question_answer", "--model.template_arguments", "null"]
    return [*typed, *map(str, arguments)]


def tensors(path):
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def test_every_config_of_a_model_has_a_twin():
    assert {path.stem for path in (CONFIGS / "models").glob("*.yaml")} == {*PUBLISHED}


def refusal(name, reading, *arguments):
    """What is said where no model is at hand; all settings have been parsed, checked and made into objects by then."""
    cli = FitCLI("fit", DemonstrationDataModule, fit(name, reading, *arguments))
    with cli.output, pytest.raises(SaError) as refused:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return str(refused.value)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_all_is_accepted_up_to_loading(name, reading, demonstrations, tmp_path):
    rest = ("--data.demonstrations", demonstrations, "--output", tmp_path / "out")
    message = refusal(name, reading, "--surgery.harm", "HARM", *rest)
    settings = settings_of(name)
    first = settings.get("surgery", {}).get("base", settings["model"]["target"])
    assert message.startswith((f"{first} is no directory here", f"{first} does not exist")), message


@pytest.mark.parametrize("name", PLACES)
def test_the_place_of_a_model_that_nobody_publishes_is_refused_until_it_is_there(name, demonstrations, tmp_path):
    rest = ("--data.demonstrations", demonstrations, "--output", tmp_path / "out")
    if settings_of(name).get("steering"):  # the base would be looked for first
        rest += ("--steering.layers", "null")
    message = refusal(name, "paper", *rest)
    assert f"No model could be found at {settings_of(name)['model']['target']}" in message
    assert "Check the path: it needs a config.json." in message


@pytest.fixture
def undrawn(monkeypatch):
    """Plots take half the time of such a fit, and show nothing of a twin."""
    monkeypatch.setattr("sa_lightning.evaluation.report.curves.save_figure", lambda *_args, **_options: None)


def edited(model, sources, output):
    """The directory that `sa edit` writes, with what changed: name to a mask of entries."""
    config = CONFIGS / "safety_arithmetic" / ("edit_knowledge_edited.yaml" if model.target == "edited" else "edit.yaml")
    typed = [word for role, place in sources.items() for word in (f"--{role}", str(place))]
    main(["edit", "--config", str(config), *typed, "--scale", "2", "--output", str(output)])  # as fit_paper.yaml
    before, after = tensors(sources["target"].resolve()), tensors(output)
    assert before.keys() == after.keys()
    return {name: before[name] != after[name] for name in before}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_twin_is_edited_on_disk_and_steered_in_both_readings(name, demonstrations, tmp_path, undrawn):
    model = PUBLISHED[name]
    places = model.written(tmp_path)
    sources = {role: places / role for role in ("base", "harm", "target")}
    changed = edited(model, sources, tmp_path / "edited")
    area = [EDITED - 1, EDITED, EDITED + 1] if model.target == "edited" else None
    inside = [one for key, one in changed.items() if area is None or any(f"layers.{block}." in key for block in area)]
    entries = sum(one.numel() for one in inside)
    assert sum(int(one.sum()) for one in changed.values()) == int(DENSITY * entries + 0.5)
    assert sum(int(one.sum()) for one in inside) == int(DENSITY * entries + 0.5)

    written = {}
    for reading in READINGS:
        out = tmp_path / reading
        typed = (
            "--model.target",
            sources["target"],
            "--surgery.base",
            sources["base"],
            "--surgery.harm",
            sources["harm"],
        )
        main(["fit", *fit(name, reading, *typed, "--data.demonstrations", demonstrations, "--output", out)])
        written[reading] = SteeringArtifact.from_pretrained(out / "artifact")
    in_memory = tensors(tmp_path / "paper" / "edited")  # by which the second directions were fitted, and their weights
    assert all(torch.equal(tensor, in_memory[key]) for key, tensor in tensors(tmp_path / "edited").items())
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    ids = torch.tensor([[1, 7, 12, 9, 30, 11]])
    with torch.no_grad():
        plain = network(ids).logits
        for reading, artifact in written.items():
            (rule,) = artifact.rules.values()
            for directions in rule.directions.values():
                assert [*directions] == (area or [*range(network.config.num_hidden_layers)])
                assert all(bool(one.isfinite().all()) for one in directions.values())
            with steer(network, artifact, allow_other_weights=reading == "reference_code"):
                steered = network(ids).logits
            assert bool(steered.isfinite().all())
            assert not torch.equal(steered, plain)
        assert torch.equal(network(ids).logits, plain)


def test_a_packed_copy_of_gpt_oss_is_refused_with_the_way_round(demonstrations, tmp_path, refused):
    places = PUBLISHED["gpt_oss_20b"].written(tmp_path)
    config = places / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "mxfp4"}}))
    rest = ("--data.demonstrations", demonstrations, "--output", tmp_path / "out")
    said = refused("fit", *fit("gpt_oss_20b", "paper", "--model.target", places / "base", *rest))
    assert "is quantised (mxfp4)" in said
    assert "dequantised" in said


def test_arguments_of_a_chat_template_are_refused_beside_another(demonstrations, tmp_path, refused):
    """So the reading of the authors' code leaves those of Qwen3 out."""
    places = PUBLISHED["qwen3_8b"].written(tmp_path)
    rest = ("--data.demonstrations", demonstrations, "--output", tmp_path / "out")
    typed = fit("qwen3_8b", "paper", "--model.target", places / "base", "--template", "question_answer", *rest)
    assert "`enable_thinking`" in refused("fit", *typed)
