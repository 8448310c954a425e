"""A fit on an adapter, or on a sum of them, is the fit on the merged checkpoint."""

import pytest
import torch
from support.adapters import KINDS, with_biases, write_adapter
from support.fits import fit, fitted, numbered
from support.models import saved

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.models import load_model
from sa_lightning.surgery import EditSettings, Sources, open_checkpoint, plan_from, write_edit


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    saved(with_biases(), root / "base")
    for kind in KINDS:
        saved(write_adapter(root / "base", root / kind, **KINDS[kind]), root / f"{kind} merged")
    write_adapter(root / "base", root / "harm", seed=8)
    return root


def directions(artifact, weights="original"):
    return artifact.rules["pairs"].directions[weights]


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_alone_is_fitted_as_the_merged_checkpoint(models, demonstrations, tmp_path, kind):
    found = fitted(models / kind, demonstrations, tmp_path / "adapter")
    wanted = fitted(models / f"{kind} merged", demonstrations, tmp_path / "merged")
    for layer, direction in directions(wanted).items():
        assert torch.allclose(directions(found)[layer], direction, atol=1e-5)
    assert found.fingerprints == wanted.fingerprints
    assert found.model == str(models / kind)


def test_a_sum_is_fitted_edited_and_written_as_the_merged_checkpoint(models, demonstrations, tmp_path):
    base, harm = str(models / "base"), str(models / "harm")
    target = f"{base} + {models}/DoRA*0.7"
    results = {}
    for name, source in (("sum", target), ("merged", str(tmp_path / "checkpoint"))):
        if name == "merged":
            saved(load_model(target), tmp_path / "checkpoint")
        surgery = SurgeryCallback(base=base, harm=f"{base} + {harm}*0.5", density=0.2, scale=1.0)
        fit(source, demonstrations, tmp_path / name, surgery, numbered(), epochs=2)
        results[name] = SteeringArtifact.from_pretrained(tmp_path / name / "artifact")
    for weights in ("original", "edited"):
        for layer, direction in directions(results["merged"], weights).items():
            assert torch.allclose(directions(results["sum"], weights)[layer], direction, atol=1e-5)
    assert results["sum"].surgery["harm"] == f"{base} + {harm}*0.5"
    out = write_edit(
        plan_from(
            Sources(base=base, harm=(f"{base} + {harm}*0.5",), target=target), EditSettings(density=0.2, scale=1.0)
        ),
        tmp_path / "edited",
    )
    assert open_checkpoint(out).fingerprint() == open_checkpoint(tmp_path / "sum" / "edited").fingerprint()
