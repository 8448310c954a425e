"""A fit without a gradient: what it reads, and that any number of processes reads the same."""

import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from conftest import llama, word_tokenizer
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import ExtractionCallback, PairStatesMetric, SurgeryCallback
from sa_lightning.cli.lightning import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule, ShardedBatchSampler
from sa_lightning.errors import DataError
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import fit_directions, read_demonstrations, weights_fingerprint
from sa_lightning.surgery import Checkpoint


def fit(target, demonstrations, output, *callbacks, epochs=1, batch_size=3, **data):
    module = CausalLMModule(str(target))
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=output,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), batch_size=batch_size, **data))
    return module


def by_hand(model, demonstrations):
    """Read the last-token states one conversation at a time, through `output_hidden_states`."""
    tokenizer, sides = word_tokenizer(), {"safe": [], "unsafe": []}
    for pair in read_demonstrations(demonstrations)[0]:
        for side, rows in sides.items():
            text = tokenizer.apply_chat_template(pair.messages(side), tokenize=False, continue_final_message=True)
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
            raw = []
            keep = partial(lambda raw, _module, _inputs, output: raw.append(output[0, -1]), raw)
            hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
            model(ids)
            for hook in hooks:
                hook.remove()
            rows.append(torch.stack(raw))
    return torch.stack(sides["safe"]), torch.stack(sides["unsafe"])


def test_a_fit_finds_the_directions_that_one_finds_by_hand(checkpoints, demonstrations, tmp_path):
    fit(checkpoints / "base", demonstrations, tmp_path, ExtractionCallback())
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    expected = fit_directions(*by_hand(llama(), demonstrations))
    for layer in range(3):
        assert torch.allclose(artifact.directions["original"][layer], expected[layer], atol=1e-5)
    assert artifact.demonstrations["pairs"] == 7
    assert artifact.fingerprints == {"original": weights_fingerprint(llama())}


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(checkpoints, demonstrations, tmp_path, batch_size):
    extraction = ExtractionCallback(save=False)
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=batch_size)
    safe, unsafe = by_hand(llama(), demonstrations)
    assert torch.allclose(extraction.states["original"].safe, safe, atol=1e-4)
    assert torch.allclose(extraction.states["original"].unsafe, unsafe, atol=1e-4)


def test_the_lm_head_never_runs_during_a_fit(checkpoints, demonstrations, tmp_path, monkeypatch):
    module = CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    monkeypatch.setattr(module.network.lm_head, "forward", lambda *_: pytest.fail("the LM head ran"))
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=1,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[ExtractionCallback(save=False)],
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))


def test_with_surgery_both_sets_of_directions_are_fitted_and_the_model_comes_back(
    checkpoints, demonstrations, tmp_path
):
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), density=0.2, scale=1.0)
    module = fit(checkpoints / "base", demonstrations, tmp_path, surgery, ExtractionCallback(), epochs=2)
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
    fit(tmp_path / "adapter", demonstrations, tmp_path / "out", surgery, ExtractionCallback(), epochs=2)
    written, target = Checkpoint.open(tmp_path / "out" / "edited"), Checkpoint.open(tmp_path / "adapter")
    assert SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact").surgery["base"] == str(checkpoints / "base")
    changed = [name for name in target.names if not torch.equal(written.read(name), target.read(name))]
    assert changed
    edited = llama()
    edited.load_state_dict(load_file(tmp_path / "out" / "edited" / "model.safetensors"), strict=False)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact")
    assert weights_fingerprint(edited) == artifact.fingerprints["edited"]


def test_demonstrations_longer_than_the_context_are_cut_on_the_left_and_counted(checkpoints, demonstrations, tmp_path):
    fit(checkpoints / "base", demonstrations, tmp_path, ExtractionCallback(), max_length=8)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.demonstrations["truncated"] == 14


def test_nan_weights_are_refused_and_nothing_is_written(checkpoints, demonstrations, tmp_path):
    from sa_lightning.errors import SaError

    broken = llama()
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    word_tokenizer().save_pretrained(tmp_path / "broken")
    with pytest.raises(SaError, match="not finite"):
        fit(tmp_path / "broken", demonstrations, tmp_path / "out", ExtractionCallback())
    assert not (tmp_path / "out" / "artifact").exists()


def test_every_process_gets_the_same_number_of_batches_and_every_row_counts_once():
    for count in range(1, 8):
        for world in range(1, 5):
            batches = [[2 * index, 2 * index + 1] for index in range(count)]
            dealt = [list(ShardedBatchSampler(batches, rank, world)) for rank in range(world)]
            assert len({len(mine) for mine in dealt}) == 1
            counted = sorted(i for mine in dealt for batch in mine for i, counts in batch if counts)
            assert counted == list(range(2 * count))


def test_a_pair_that_was_not_read_is_an_error():
    metric = PairStatesMetric(2, 1, 4)
    metric.update(torch.ones(2, 1, 4), torch.tensor([0]), torch.tensor([True]))
    with pytest.raises(DataError, match="1 of 2 pairs were not read exactly once"):
        metric.compute()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from sa_lightning.cli import main
main(["fit", "--model.target", {target!r}, "--data.demonstrations", {pairs!r}, "--data.batch_size", "3",
      "--surgery.harm", {harm!r}, "--output", {output!r}, "--trainer.accelerator", "cpu",
      "--trainer.devices", sys.argv[1], "--trainer.enable_progress_bar", "false"])
"""


def test_two_processes_give_the_vectors_of_one_with_uneven_data(checkpoints, demonstrations, tmp_path):
    """Seven pairs in batches of three are three batches: the last process repeats one, which must not count."""
    found = {}
    for devices in ("1", "2"):
        output = tmp_path / devices
        script = tmp_path / f"run{devices}.py"
        script.write_text(
            SCRIPT.format(
                tests=str(tmp_path),
                target=str(checkpoints / "base"),
                harm=str(checkpoints / "harm"),
                pairs=str(demonstrations),
                output=str(output),
            )
        )
        done = subprocess.run(
            [sys.executable, str(script), devices], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((output / "fit.json").read_text())["processes"] == int(devices)
        found[devices] = load_file(output / "artifact" / "steering.safetensors")
    assert found["1"].keys() == found["2"].keys()
    for key, one in found["1"].items():
        assert torch.allclose(one, found["2"][key], atol=1e-6)


def test_an_error_on_the_way_gives_the_model_back(checkpoints, demonstrations, tmp_path):
    class Fails(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                assert weights_fingerprint(pl_module.network) != weights_fingerprint(llama())
                raise ZeroDivisionError

    module = CausalLMModule(str(checkpoints / "base"))
    surgery, extraction = SurgeryCallback(harm=str(checkpoints / "harm")), ExtractionCallback()
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
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_loaded_in_another_type_is_written_as_it_was_fitted(checkpoints, demonstrations, tmp_path, dtype):
    module = CausalLMModule(str(checkpoints / "base"), dtype=dtype)
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=2,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[SurgeryCallback(harm=str(checkpoints / "harm")), ExtractionCallback()],
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    assert str(written.dtype) == f"torch.{dtype}"
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert weights_fingerprint(written) == artifact.fingerprints["edited"]
