"""Every process measures every arm; the first reports, once, in the order in which they ran."""

from types import SimpleNamespace

import pytest
from support.models import llama

from sa_lightning.callbacks import EvaluationCallback, ProvenanceCallback
from sa_lightning.datamodules import ArmDataModule


def data(world_size=1, rank=0):
    module = ArmDataModule(random_directions=1)
    module.choose(has_artifact=True, has_surgery=True)
    module.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)  # type: ignore[assignment]
    return module


@pytest.mark.parametrize(("world_size", "rank"), [(1, 0), (2, 1), (3, 2)])
def test_every_process_runs_every_arm(world_size, rank):
    names = [arm.name for arm in data(world_size, rank).val_dataloader()]
    assert names == ["original", "steered", "random-1", "edited", "edited+steered"]


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_reports_all_arms_once(first):
    reported = []
    callback = EvaluationCallback(evaluate=lambda model, arm: arm.name.upper(), report=reported.append)
    provenance = ProvenanceCallback(command="", config="", versions={}, seed=0, verb="validate")
    trainer = SimpleNamespace(is_global_zero=first, callbacks=[provenance, callback])
    module = SimpleNamespace(network=llama())
    callback.setup(trainer, module, "validate")  # type: ignore[arg-type]
    arms = list(data().val_dataloader())
    for index, arm in enumerate(arms):
        callback.on_validation_batch_end(trainer, module, module.evaluate(None, arm), arm, index)  # type: ignore[arg-type]
    callback.on_validation_end(trainer, module)  # type: ignore[arg-type]
    assert reported == ([{arm.name: arm.name.upper() for arm in arms}] if first else [])
    assert [name for name in provenance.seconds if name.startswith("arm ")] == [f"arm {arm.name}" for arm in arms]
    callback.setup(trainer, module, "validate")  # type: ignore[arg-type]
    assert callback.results == {}
