"""A fit in several processes: what they read together is what one reads, and what they cannot do is refused."""

import pytest
import torch
from lightning.pytorch import Trainer
from support.fits import numbered, sa_fit
from support.models import llama

from sa_lightning import SteeringArtifact
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule, ShardedBatchSampler
from sa_lightning.errors import SettingError
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import weights_fingerprint


def test_every_process_gets_the_same_number_of_batches_and_every_row_counts_once():
    for count in range(1, 8):
        for world in range(1, 5):
            batches = [[2 * index, 2 * index + 1] for index in range(count)]
            dealt = [list(ShardedBatchSampler(batches, rank, world)) for rank in range(world)]
            assert len({len(mine) for mine in dealt}) == 1
            counted = sorted(i for mine in dealt for batch in mine for i, counts in batch if counts)
            assert counted == list(range(2 * count))


@pytest.fixture(scope="module")
def by_one_process(checkpoints, demonstrations, tmp_path_factory):
    directory = tmp_path_factory.mktemp("one")
    return sa_fit(directory, checkpoints, demonstrations, "--surgery.harm", str(checkpoints / "harm"))[0]


@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_two_processes_give_the_vectors_of_one_with_uneven_data(
    checkpoints, demonstrations, tmp_path, by_one_process, strategy
):
    """Seven pairs in batches of three are three batches: the last process repeats one, which must not count."""
    options = ["--trainer.devices", "2", "--trainer.strategy", strategy]
    if strategy == "ddp":
        options += ["--surgery.harm", str(checkpoints / "harm")]
    found, processes = sa_fit(tmp_path, checkpoints, demonstrations, *options)
    assert processes == 2
    expected = {key: value for key, value in by_one_process.items() if strategy == "ddp" or "original" in key}
    assert found.keys() == expected.keys()
    for key, one in expected.items():
        assert torch.allclose(one, found[key], atol=1e-6)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact")
    assert artifact.fingerprints["original"] == weights_fingerprint(llama())


def test_two_processes_give_the_sums_of_one(checkpoints, demonstrations, tmp_path):
    """Where states are only summed, as of more pairs than are kept."""
    options = ["--steering.keep_states", "1", "--steering.direction", "principal_centred"]
    one, _ = sa_fit(tmp_path / "one", checkpoints, demonstrations, *options)
    two, processes = sa_fit(tmp_path / "two", checkpoints, demonstrations, *options, "--trainer.devices", "2")
    assert processes == 2
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-6)


def test_a_surgery_on_split_weights_is_refused_before_anything_is_loaded(checkpoints, demonstrations, tmp_path, capsys):
    from sa_lightning.cli import main

    arguments = ["fit", "--model.target", str(checkpoints / "base"), "--data.demonstrations", str(demonstrations)]
    arguments += ["--output", str(tmp_path), "--trainer.strategy", "sharded", "--surgery.harm", "x"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "A surgery needs whole weights" in capsys.readouterr().err


def test_a_split_model_does_not_reply(checkpoints, tmp_path, capsys):
    from sa_lightning.cli import main

    arguments = ["validate", "--model.target", str(checkpoints / "base"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--trainer.strategy", "sharded"])
    assert stopped.value.code == 2
    assert "`sa validate` lets it reply" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prefixes_of_a_split_model_are_not_shared(checkpoints, demonstrations, tmp_path, monkeypatch):
    monkeypatch.setattr(CausalLMModule, "sharded", True)
    module = CausalLMModule(str(checkpoints / "base"))
    monkeypatch.setattr(module, "configure_model", lambda: module._loaded.append(llama()))
    monkeypatch.setattr(module, "fingerprint", lambda: "none")
    trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                      default_root_dir=tmp_path, callbacks=[numbered(save=False)])  # fmt: skip
    with pytest.raises(SettingError, match="The processes of a split model run the same forwards"):
        trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), share_prefixes=True))


def test_two_processes_shuffle_as_one_does(checkpoints, demonstrations, tmp_path):
    options = ["--steering.control", "shuffled", "--steering.control_seed", "2"]
    one, _ = sa_fit(tmp_path / "one", checkpoints, demonstrations, *options)
    two, processes = sa_fit(tmp_path / "two", checkpoints, demonstrations, *options, "--trainer.devices", "2")
    assert processes == 2
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "two" / "out" / "artifact")
    assert artifact.control == {"kind": "shuffled", "seed": 2}
