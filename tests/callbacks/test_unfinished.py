"""An interrupted fit goes on where it stopped, and keeps nothing that is not so."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from support.fits import fit, numbered

from sa_lightning.callbacks import PairStatesMetric, SurgeryCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.module import CausalLMModule


class StopsAfter(Callback):
    """Interrupts a fit behind a batch, as Ctrl-C or an error would."""

    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            raise ZeroDivisionError


def reading(module):
    """Count the pairs that run."""
    ran = []
    module.configure_model()
    module.network.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: ran.append(len(kwargs["input_ids"]) // 2), with_kwargs=True
    )
    return ran


@pytest.mark.parametrize("keep", [4096, 1])
@pytest.mark.parametrize("at", [(0, 0), (0, 3), (1, 1)])
def test_an_interrupted_fit_goes_on_where_it_stopped(checkpoints, demonstrations, tmp_path, keep, at):
    def run(*callbacks, module=None):
        module = module or CausalLMModule(str(checkpoints / "base"))
        extraction = numbered(keep_states=keep)
        trainer = Trainer(
            **TRAINER_DEFAULTS,
            max_epochs=2,
            accelerator="cpu",
            enable_progress_bar=False,
            default_root_dir=tmp_path,
            callbacks=[SurgeryCallback(harm=str(checkpoints / "harm"), save_edited=False), extraction, *callbacks],
        )
        trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), batch_size=1, share_prefixes=False))
        return extraction

    with pytest.raises(ZeroDivisionError):
        run(StopsAfter(*at))
    assert not (tmp_path / "artifact").exists()
    module = CausalLMModule(str(checkpoints / "base"))
    ran = reading(module)
    extraction = run(module=module)
    done = at[0] * 7 + at[1] + 1
    assert sum(ran) == 14 - done
    assert sum(extraction.resumed.values()) == done
    assert not (tmp_path / "unfinished").exists()
    whole = numbered(save=False, keep_states=keep)
    fit(checkpoints / "base", demonstrations, tmp_path, SurgeryCallback(harm=str(checkpoints / "harm"),
        save_edited=False), whole, epochs=2, batch_size=1, share_prefixes=False)  # fmt: skip
    for name, layers in whole.artifact.directions.items():
        for layer, direction in layers.items():
            assert torch.allclose(extraction.artifact.directions[name][layer], direction, atol=1e-6)


@pytest.mark.parametrize("where", ["take_in", "of_rows"])
def test_an_interruption_within_the_taking_in_of_a_batch_is_not_kept(where, monkeypatch):
    from sa_lightning.callbacks import pair_states
    from sa_lightning.steering import PairMoments

    metric = PairStatesMetric(6, 1, 4, kept=[0, 5], second=True)
    states, all_counted = torch.randn(8, 1, 4), torch.ones(4, dtype=torch.bool)
    monkeypatch.setattr(pair_states, "TOGETHER", 1)
    metric.update(states, torch.tensor([0, 1, 2, 3]), all_counted)
    assert metric.is_whole()
    assert int(metric.sums.count) == 3
    if where == "take_in":
        monkeypatch.setattr(PairMoments, "take_in", _interrupted)
    else:
        metric.seen = _NoAdding(metric.seen)
    more = states[[0, 1, 4, 5]], torch.tensor([4, 5]), all_counted[:2]
    with pytest.raises(KeyboardInterrupt):
        metric.update(*more)
    assert not metric.is_whole()


def _interrupted(*_args):
    raise KeyboardInterrupt


class _NoAdding(torch.Tensor):
    def __setitem__(self, *_args):
        raise KeyboardInterrupt


def test_what_was_read_with_other_settings_is_left_out(checkpoints, demonstrations, tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(), StopsAfter(0, 1), batch_size=1)
    for settings in ({"tokens": 2}, {"capture_site": "mlp"}, {"layers": [0]}):
        extraction = numbered(**settings)
        with pytest.raises(ZeroDivisionError):
            fit(checkpoints / "base", demonstrations, tmp_path, extraction, StopsAfter(0, 0), batch_size=1)
        assert extraction.resumed == {"original": 0}
    extraction = numbered()
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=1)
    assert extraction.resumed == {"original": 2}


def test_files_of_two_processes_are_merged_and_no_pair_counts_twice(tmp_path):
    from sa_lightning.callbacks.unfinished import UnfinishedStates

    def held(pairs):
        metric = PairStatesMetric(6, 1, 4)
        states = torch.arange(len(pairs) * 8.0).view(-1, 1, 4)
        metric.update(states, torch.tensor(pairs), torch.ones(len(pairs), dtype=torch.bool))
        return metric.tensors()

    key = {"weights": "a"}
    for rank, pairs in enumerate(([0, 2], [1, 3])):
        UnfinishedStates(tmp_path, key, rank).save(held(pairs))
    UnfinishedStates(tmp_path, {"weights": "b"}, 0).save(held([5]))
    (tmp_path / "broken.safetensors").write_bytes(b"half a file")
    first = UnfinishedStates(tmp_path, key, 0)
    found = first.load()
    assert sorted(int(i) for tensors in found for i in tensors["seen"].nonzero()) == [0, 1, 2, 3]
    # Stopped between the merge and the removal of what was merged: the merged file counts, the others do not.
    old = {path: path.read_bytes() for path in tmp_path.glob("*-0-*.safetensors")}
    first.merge(held([0, 1, 2, 3]))
    for path, content in old.items():
        path.write_bytes(content)
    again = UnfinishedStates(tmp_path, key, 0).load()
    assert [tensors["seen"].tolist() for tensors in again] == [[1, 1, 1, 1, 0, 0]]


def test_a_full_disk_costs_the_resumption_and_not_the_run(checkpoints, demonstrations, tmp_path, monkeypatch):
    from sa_lightning.callbacks import unfinished

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unfinished, "save_file", full)
    monkeypatch.setattr(unfinished, "LEAST", 0.0)
    with pytest.warns(UserWarning, match=r"could not be written .* Is the disk full"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(), batch_size=1)
    assert (tmp_path / "artifact").exists()


def test_files_of_another_run_in_the_same_place_stay(checkpoints, demonstrations, tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(tokens=2), StopsAfter(0, 1), batch_size=1)
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(), batch_size=1)
    assert (tmp_path / "artifact").exists()
    extraction = numbered(tokens=2)
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=1)
    assert extraction.resumed == {"original": 2}
    assert not (tmp_path / "unfinished").exists()
