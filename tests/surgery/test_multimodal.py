"""Of a multimodal checkpoint, the language model is edited: its blocks count, and what stands beside them stays."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import FAMILIES
from support.small_checkpoints import says

from sa_lightning.errors import NothingToDoError
from sa_lightning.fitting import Surgery
from sa_lightning.models import load_model
from sa_lightning.surgery import EditSettings, Scope, Sources, open_checkpoint, plan_from, write_edit
from sa_lightning.surgery.scope import layer_of

DIRECTION = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(0)), dim=0)


MODELS = {name: FAMILIES[name] for name in ("Llava", "Mistral3", "Qwen2.5-VL")}


@pytest.fixture(params=MODELS)
def multimodal(request, tmp_path):
    """A model and a fine-tune: its tower moved far, block 1 of its language model a little."""
    MODELS[request.param]().save_pretrained(tmp_path / "base")
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    for name, tensor in tensors.items():
        tensor.add_(torch.randn(tensor.shape) * (0.2 if beside(name) else 0.01 if layer_of(name) == 1 else 0))
    (tmp_path / "harm").mkdir()
    (tmp_path / "harm" / "config.json").write_text((tmp_path / "base" / "config.json").read_text())
    save_file(tensors, tmp_path / "harm" / "model.safetensors")
    return tmp_path


def beside(name: str) -> bool:
    return name.startswith(("vision_tower.", "multi_modal_projector.", "visual."))


def edit(path, sources=None, **settings):
    plan = plan_from(sources or Sources(base=str(path / "base"), harm=str(path / "harm")), EditSettings(**settings))
    return plan, load_file(write_edit(plan, path / "out") / "model.safetensors")


def changed(path, after) -> set[str]:
    before = load_file(path / "base" / "model.safetensors")
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_the_largest_entries_are_those_of_the_language_model(multimodal):
    plan, after = edit(multimodal, density=0.01, scale=1.0)
    names = changed(multimodal, after)
    assert names
    assert all(".layers.1." in name and not beside(name) for name in names)
    text = [name for name in open_checkpoint(multimodal / "base").names if not beside(name)]
    assert plan.report()["n"] == sum(after[name].numel() for name in text)
    assert plan.report()["per_layer"].keys() == {"0", "1", "2", "other"}


def test_towers_change_where_that_is_asked_for_and_are_no_blocks_then(multimodal):
    plan, after = edit(multimodal, density=0.01, scale=1.0, scope=Scope(towers=True))
    assert all(map(beside, changed(multimodal, after)))
    assert plan.report()["per_layer"]["other"]["k"] == plan.report()["k"]
    with pytest.raises(NothingToDoError) as refusal:
        edit(multimodal, scope=Scope(include=("*vis*.*",)))
    says(refusal, "without towers", "Its blocks are 0 to 2")


def test_the_edit_area_is_found_in_the_language_model(multimodal):
    sources = Sources(base=str(multimodal / "base"), harm=str(multimodal / "harm"), target=str(multimodal / "harm"))
    plan, _ = edit(multimodal, sources, density=1.0, scale=1.0, scope=Scope(edit_area=True))
    assert plan.report()["edit_area"] == [0, 1, 2]
    tensors = load_file(multimodal / "harm" / "model.safetensors")
    base = load_file(multimodal / "base" / "model.safetensors")
    tower = {name: tensor if beside(name) else base[name] for name, tensor in tensors.items()}
    save_file(tower, multimodal / "harm" / "model.safetensors")
    with pytest.raises(NothingToDoError, match="none does"):
        edit(multimodal, sources, scope=Scope(edit_area=True))


def test_a_direction_is_projected_out_of_the_language_model_alone(multimodal):
    save_file({"direction": DIRECTION}, multimodal / "direction.safetensors")
    sources = Sources(base=str(multimodal / "base"), direction=str(multimodal / "direction.safetensors"))
    plan, after = edit(multimodal, sources, density=1.0, scope=Scope(embeddings=False))
    assert "2 writers in each of 3 blocks (mlp.down_proj, self_attn.o_proj)" in plan.delta.formula
    names = changed(multimodal, after)
    assert len(names) == 6
    assert all(float((DIRECTION @ after[name]).abs().max()) < 1e-5 for name in names)


def test_heads_are_those_of_the_language_model(multimodal):
    _, after = edit(multimodal, select="heads", heads={1: [0, 3]}, scale=1.0)
    (name,) = changed(multimodal, after)
    assert name.endswith("model.layers.1.self_attn.o_proj.weight")
    assert not beside(name)


def test_the_edit_of_the_loaded_model_is_that_on_disk(multimodal):
    edit(multimodal, density=0.1, scale=1.0)
    model, edited = load_model(str(multimodal / "base")), load_model(str(multimodal / "out"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    surgery = Surgery(Sources(harm=str(multimodal / "harm")), EditSettings(density=0.1, scale=1.0))
    surgery.open(str(multimodal / "base"))
    surgery.apply(model)
    assert all(torch.equal(tensor, edited.state_dict()[name]) for name, tensor in model.state_dict().items())
    surgery.undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight",
        "model.visual.blocks.3.attn.proj.weight",
        "audio_tower.layers.1.fc1.weight",
        "qformer.encoder.layer.1.attention.weight",
        "mtp.layers.0.mlp.down_proj.weight",
    ],
)
def test_what_stands_beside_the_language_model_is_no_block_and_not_in_scope(name):
    assert layer_of(name) is None
    assert not Scope().contains(name)
    assert Scope(towers=True).contains(name)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.3.mlp.vision_mlp.weight",
        "language_model.model.layers.3.mlp.down_proj.weight",
        "model.language_model.layers.3.mlp.down_proj.weight",
        "model.decoder.layers.3.fc2.weight",
    ],
)
def test_what_lies_in_a_decoder_block_belongs_to_it(name):
    assert layer_of(name) == 3
    assert Scope().contains(name)
