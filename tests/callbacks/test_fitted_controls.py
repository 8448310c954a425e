"""Controls: shuffled demonstrations, and random directions in the place of fitted ones."""

import pytest
import torch
from lightning.pytorch import Trainer
from support.fits import by_hand, fit, numbered
from support.models import llama

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import SettingError
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import fit_directions, shuffled


def test_shuffled_demonstrations_are_read_in_any_batches_and_the_artifact_says_so(
    checkpoints, demonstrations, tmp_path
):
    safe, unsafe = by_hand(llama(), demonstrations)
    pairs = shuffled(list(zip(safe, unsafe, strict=True)), 4)
    expected = fit_directions(*(torch.stack(side) for side in zip(*pairs, strict=True)), method="mean")
    for batch_size in (1, 7):
        output = tmp_path / str(batch_size)
        control = numbered(direction="mean", control="shuffled", control_seed=4)
        fit(checkpoints / "base", demonstrations, output, control, batch_size=batch_size)
        artifact = SteeringArtifact.from_pretrained(output / "artifact")
        found = torch.stack([direction for _, direction in sorted(artifact.directions["original"].items())])
        assert torch.allclose(found, expected, atol=1e-5)
        assert artifact.control == {"kind": "shuffled", "seed": 4}
        assert artifact.demonstrations["pairs"] == 6  # of seven, in pairs of pairs
        assert "This is a control, not a method" in (output / "artifact" / "README.md").read_text()


def test_random_directions_take_the_place_of_fitted_ones_behind_the_same_layers(checkpoints, demonstrations, tmp_path):
    plain, drawn = (
        numbered(choose_layers=2, strength=0.2, save=False, control=control, control_seed=9)
        for control in ("none", "random")
    )
    surgery = [SurgeryCallback(harm=str(checkpoints / "harm"), save_edited=False) for _ in range(2)]
    for callback, edit in zip((plain, drawn), surgery, strict=True):
        fit(checkpoints / "base", demonstrations, tmp_path, edit, callback, epochs=2)
    assert plain.artifact.control is None
    assert drawn.artifact.fingerprints == plain.artifact.fingerprints
    assert drawn.artifact.statistics == plain.artifact.statistics
    for name, layers in plain.artifact.directions.items():
        expected = plain.artifact.randomised(9).directions[name]
        assert sorted(drawn.artifact.directions[name]) == sorted(layers)
        assert all(torch.equal(drawn.artifact.directions[name][layer], expected[layer]) for layer in layers)
        assert not any(torch.equal(expected[layer], layers[layer]) for layer in layers)


def test_data_that_a_control_has_shuffled_are_as_before_for_the_next_fit(checkpoints, demonstrations, tmp_path):
    """As in a sweep, which keeps model and demonstrations from trial to trial."""
    module, data = CausalLMModule(str(checkpoints / "base")), DemonstrationDataModule(str(demonstrations))
    found = []
    for control in ("none", "shuffled", "none"):
        callback = numbered(control=control, save=False)
        trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                          callbacks=[callback], default_root_dir=tmp_path)  # fmt: skip
        trainer.fit(module, datamodule=data)
        found.append(callback.artifact.directions["original"][0])
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=0.1)


def test_one_pair_cannot_be_shuffled(checkpoints, demonstrations, tmp_path):
    with pytest.raises(SettingError, match=r"shuffled, and there is 1 pair\."):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(control="shuffled"), limit=1)
