"""Which layers are read, chosen and steered, and how strongly."""

import re

import pytest
import torch
from lightning.pytorch import Trainer
from support.fits import fit, numbered
from support.models import llama

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import SteeringCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import ARMS, DemonstrationDataModule
from sa_lightning.errors import SettingError
from sa_lightning.module import CausalLMModule


def test_only_the_layers_asked_for_run_and_get_directions(checkpoints, demonstrations, tmp_path):
    everything = numbered(save=False)
    fit(checkpoints / "base", demonstrations, tmp_path, everything)
    extraction = numbered(layers=[1, 0, 1])
    module = CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    module.network.model.layers[2].register_forward_pre_hook(lambda *_: pytest.fail("a layer ran for nothing"))
    trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                      default_root_dir=tmp_path, callbacks=[extraction])  # fmt: skip
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert sorted(artifact.directions["original"]) == artifact.statistics["original"]["layers"] == [0, 1]
    for layer, direction in artifact.directions["original"].items():
        assert torch.allclose(direction, everything.artifact.directions["original"][layer], atol=1e-5)


def test_the_best_layers_are_chosen_by_what_they_separate(checkpoints, demonstrations, tmp_path):
    from sa_lightning.steering import choose_layers

    fit(checkpoints / "base", demonstrations, tmp_path, numbered(choose_layers=2))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    found = artifact.statistics["original"]
    assert len(found["auroc"]) == 3
    gaps = [float("nan") if gap is None else gap for gap in found["gap"]]
    assert sorted(artifact.directions["original"]) == choose_layers([0, 1, 2], found["auroc"], gaps, 2)


@pytest.mark.parametrize("settings", [{"choose_layers": 4}, {"choose_layers": 2, "layers": [1]}])
def test_more_layers_than_there_are_cannot_be_chosen(checkpoints, demonstrations, tmp_path, settings):
    with pytest.raises(SettingError, match="Layers are chosen among those read"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(**settings))


def test_one_pair_chooses_no_layers(checkpoints, demonstrations, tmp_path):
    with pytest.raises(SettingError, match="and 1 pairs"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(choose_layers=1), limit=1)
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(), limit=1)
    found = SteeringArtifact.from_pretrained(tmp_path / "artifact").statistics["original"]
    assert found["auroc"] == [None] * 3  # not known, and JSON says so


def test_a_strength_per_layer_is_kept_and_acts(checkpoints, demonstrations, tmp_path):
    from sa_lightning import steer

    module = fit(checkpoints / "base", demonstrations, tmp_path, numbered(strength={1: 0.3}))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.strength == {1: 0.3}
    assert artifact.steered_layers("original") == [1]
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert re.findall(r"\| original \| (\d) .* \| (\S+) \|", card) == [("0", "–"), ("1", "0.3"), ("2", "–")]
    ids, raw = torch.tensor([[1, 7, 8, 9]]), []
    for layer in module.network.model.layers:
        layer.register_forward_hook(lambda _m, _i, output: raw.append(output))
    module.network(ids)
    with steer(module.network, artifact):  # its hooks come after ours: what we see of layer 2 is the first to differ
        module.network(ids)
    same = [torch.equal(raw[layer], raw[layer + 3]) for layer in range(3)]
    assert same == [True, True, False]


def test_a_layer_that_does_not_exist_is_named(checkpoints, demonstrations, tmp_path):
    for settings in ({"layers": [3]}, {"strength": {3: 0.1}}):
        with pytest.raises(SettingError, match=r"name \[3\], but .* has 3 layers, 0 to 2"):
            fit(checkpoints / "base", demonstrations, tmp_path, numbered(**settings))


@pytest.mark.parametrize("strength", [0.0, {1: 0.0}])
def test_a_fit_of_strength_0_steers_nothing_in_any_arm(checkpoints, demonstrations, tmp_path, strength):
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(strength=strength))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.controls() == ["nothing is steered: strength 0"]
    model, ids = llama(), torch.tensor([[6, 7, 8, 9]])
    before = model(ids).logits
    callback, module = SteeringCallback(str(tmp_path / "artifact")), CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    callback.on_validation_batch_start(None, module, ARMS[1], 0)
    assert torch.equal(module.network(ids).logits, before)
    callback.on_validation_batch_end()
