"""A fit on original and edited weights: both are read, and the model comes back as it was."""

import json

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from support.fits import by_hand, fit, numbered
from support.models import llama, word_tokenizer
from transformers import AutoModelForCausalLM

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import fit_directions, weights_fingerprint
from sa_lightning.surgery import open_checkpoint


def test_with_surgery_both_sets_of_directions_are_fitted_and_the_model_comes_back(
    checkpoints, demonstrations, tmp_path
):
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), density=0.2, scale=1.0)
    module = fit(checkpoints / "base", demonstrations, tmp_path, surgery, numbered(), epochs=2)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert sorted(artifact.directions) == ["edited", "original"]
    assert weights_fingerprint(module.network) == artifact.fingerprints["original"] == weights_fingerprint(llama())
    edited = llama()
    edited.load_state_dict(load_file(tmp_path / "edited" / "model.safetensors"), strict=False)
    assert weights_fingerprint(edited) == artifact.fingerprints["edited"]
    expected = fit_directions(*by_hand(edited, demonstrations))
    assert torch.allclose(artifact.directions["edited"][2], expected[2], atol=1e-5)
    assert artifact.surgery["settings"]["density"] == 0.2
    assert artifact.surgery["k"] == round(0.2 * artifact.surgery["n"])
    assert json.loads((tmp_path / "edited" / "surgery.json").read_text())["k"] == artifact.surgery["k"]


def test_the_edit_of_a_merged_adapter_is_the_edit_of_its_checkpoint(checkpoints, demonstrations, tmp_path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(checkpoints / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    word_tokenizer().save_pretrained(tmp_path / "adapter")
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"))
    fit(tmp_path / "adapter", demonstrations, tmp_path / "out", surgery, numbered(), epochs=2)
    written, target = open_checkpoint(tmp_path / "out" / "edited"), open_checkpoint(tmp_path / "adapter")
    assert SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact").surgery["base"] == str(checkpoints / "base")
    changed = [name for name in target.names if not torch.equal(written.read(name), target.read(name))]
    assert changed
    edited = llama()
    edited.load_state_dict(load_file(tmp_path / "out" / "edited" / "model.safetensors"), strict=False)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact")
    assert weights_fingerprint(edited) == artifact.fingerprints["edited"]


def test_an_error_on_the_way_gives_the_model_back(checkpoints, demonstrations, tmp_path):
    class Fails(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                assert weights_fingerprint(pl_module.network) != weights_fingerprint(llama())
                raise ZeroDivisionError

    module = CausalLMModule(str(checkpoints / "base"))
    surgery, extraction = SurgeryCallback(harm=str(checkpoints / "harm")), numbered()
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=2,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[surgery, extraction, Fails()],
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    assert weights_fingerprint(module.network) == weights_fingerprint(llama())
    assert not any(part._forward_hooks for part in module.network.modules())
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]  # what the next run goes on from


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_loaded_in_another_type_is_written_as_it_was_fitted(checkpoints, demonstrations, tmp_path, dtype):
    module = CausalLMModule(str(checkpoints / "base"), dtype=dtype)
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=2,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[SurgeryCallback(harm=str(checkpoints / "harm")), numbered()],
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    assert str(written.dtype) == f"torch.{dtype}"
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert weights_fingerprint(written) == artifact.fingerprints["edited"]
