"""`steering.layers: edit_area`: a knowledge-edited model is steered where it was edited, and beside it."""

import pytest
from support.models import llama, saved, word_tokenizer

from sa_lightning.errors import NothingToDoError, SettingError
from sa_lightning.fitting import SteeringSettings, Surgery, fit_artifact
from sa_lightning.models import LoadedModel
from sa_lightning.surgery import Sources


def edited(root, block, layers=5):
    model = llama(layers=layers)
    saved(model, root / "base")
    model.model.layers[block].mlp.down_proj.weight.data[3, 7] += 0.5
    saved(model, root / "edited")
    return Surgery(Sources(base=str(root / "base"))), str(root / "edited")


@pytest.mark.parametrize(("block", "area"), [(0, [0, 1]), (2, [1, 2, 3]), (4, [3, 4])])
def test_the_area_is_the_edited_block_and_its_neighbours_and_no_block_that_is_not_there(tmp_path, block, area):
    surgery, target = edited(tmp_path, block)
    assert surgery.edit_area(target) == area


def test_an_artifact_has_directions_of_the_area_alone(tmp_path, demonstrations):
    surgery, target = edited(tmp_path, 2)
    loaded = LoadedModel(llama(layers=5), word_tokenizer())
    settings = SteeringSettings(layers="edit_area", strength=0.1, unit="state", sinks=None)
    artifact = fit_artifact(loaded, settings, str(demonstrations), area=lambda: surgery.edit_area(target))
    assert [*artifact.rules["pairs"].directions["original"]] == [1, 2, 3]
    assert settings.layers == "edit_area"
    with pytest.raises(SettingError, match="Name the layers"):
        fit_artifact(loaded, settings, str(demonstrations))


def test_an_area_that_cannot_be_found_is_refused(tmp_path):
    surgery, target = edited(tmp_path, 2)
    with pytest.raises(SettingError, match=r"`--surgery\.base`"):
        Surgery(Sources()).edit_area(target)
    saved(llama(layers=5), tmp_path / "same")
    with pytest.raises(NothingToDoError, match="none does"):
        surgery.edit_area(str(tmp_path / "same"))
