"""What is stored under a name is edited under that name on the loaded model, too, however it is fused there."""

from pathlib import Path

import pytest
import torch
from support.families import FAMILIES, build
from support.small_checkpoints import says
from transformers import GPT2Model

from sa_lightning.errors import CheckpointMismatchError, ModelError
from sa_lightning.fitting import Surgery
from sa_lightning.models.stored import as_stored
from sa_lightning.surgery import (
    EditInMemory,
    EditSettings,
    Example,
    ModelWeights,
    Sources,
    open_checkpoint,
    plan_from,
    saliency_scores,
    write_edit,
)

EXPERTS = {"intermediate_size": 16, "num_experts_per_tok": 2}
MODELS = {
    **FAMILIES,
    "GraniteMoe": lambda: build("GraniteMoe", "ForCausalLM", {**EXPERTS, "num_local_experts": 4}),
    "OLMoE": lambda: build("Olmoe", "ForCausalLM", {**EXPERTS, "num_experts": 4}),
}
STORED = [name for name in MODELS if name != "Llama with LoRA"]  # that one is an adapter beside its base
FUSED = ["Mixtral", "Qwen3-MoE", "OLMoE", "GraniteMoe", "GPT-OSS", "GPT-NeoX", "DeepSeek-V2", "DeepSeek-V3", "Llama4"]


def saved(model, path: Path):
    model.save_pretrained(path)
    return type(model).from_pretrained(path).eval()


def moved(family: str, path: Path):
    """Save a harmful fine-tune of the family: all its weights moved a little, at random."""
    harm = MODELS[family]()
    with torch.no_grad():
        for parameter in harm.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.01)
    harm.save_pretrained(path)


@pytest.mark.parametrize("family", STORED)
def test_a_loaded_model_holds_each_tensor_under_its_name_on_disk(family, tmp_path):
    model = saved(MODELS[family](), tmp_path)
    disk, weights = open_checkpoint(tmp_path), ModelWeights(model, tensors=as_stored(model))
    assert set(weights.names) == set(disk.names)
    for name in disk.names:
        assert torch.equal(weights.read(name), disk.read(name)), name
    live = {parameter.data_ptr() for parameter in model.state_dict(keep_vars=True).values()}
    assert all(weights.owner(name).data_ptr() in live for name in disk.names)


@pytest.mark.parametrize("family", [*FUSED, "Gemma3 with vision"])
def test_an_edit_in_memory_is_that_on_disk_and_is_undone_bit_for_bit(family, tmp_path):
    model = saved(MODELS[family](), tmp_path / "base")
    moved(family, tmp_path / "harm")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = plan_from(
        Sources(base=str(tmp_path / "base"), harm=str(tmp_path / "harm")), EditSettings(density=0.3, scale=2)
    )
    edited = type(model).from_pretrained(write_edit(plan, tmp_path / "out")).state_dict()
    surgery = Surgery(Sources(harm=str(tmp_path / "harm")), EditSettings(density=0.3, scale=2))
    surgery.open(str(tmp_path / "base"))
    surgery.apply(model)
    assert all(torch.equal(tensor, edited[name]) for name, tensor in model.state_dict().items())
    changed = sum(int((edited[name] != tensor).sum()) for name, tensor in before.items())
    assert changed == plan.report()["changed"] > 0
    surgery.undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", ["snip", "fisher"])
@pytest.mark.parametrize("family", ["Mixtral", "GraniteMoe"])
def test_the_score_of_an_expert_is_the_part_of_the_fused_gradient_that_is_its_own(family, kind, tmp_path):
    model = saved(MODELS[family](), tmp_path)
    disk, examples = open_checkpoint(tmp_path), [Example((3, 7, 11, 2, 9), 2), Example((5, 1, 8), 1)]
    weights = ModelWeights(model, tensors=as_stored(model, disk.names))
    found = saliency_scores(model, examples, disk.names, kind, weights=weights)
    whole = saliency_scores(model, examples, ModelWeights(model).names, kind)
    for name, owner in model.state_dict(keep_vars=True).items():
        with torch.no_grad():  # the scores, put where the weights are, must come out under the names on disk
            owner.copy_(whole.parameter(name))
    for name in disk.names:
        assert torch.equal(found.parameter(name), weights.read(name)), name


def test_a_checkpoint_that_was_saved_without_its_head_has_names_without_the_prefix(tmp_path):
    model = FAMILIES["GPT-2"]()
    bare: GPT2Model = model.transformer
    bare.config.tie_word_embeddings = True
    bare.save_pretrained(tmp_path)
    disk = open_checkpoint(tmp_path)
    assert "h.0.mlp.c_proj.weight" in disk.names
    loaded = type(model).from_pretrained(tmp_path)
    assert set(disk.names) == set(ModelWeights(loaded, tensors=as_stored(loaded, disk.names)).names)


def test_what_has_no_place_in_memory_is_refused_with_both_spellings(tmp_path):
    model = saved(FAMILIES["Mixtral"](), tmp_path / "base")
    moved("Mixtral", tmp_path / "harm")
    plan = plan_from(Sources(base=str(tmp_path / "base"), harm=str(tmp_path / "harm")), EditSettings(density=0.3))
    with pytest.raises(CheckpointMismatchError) as refusal:
        EditInMemory(plan, ModelWeights(model))
    says(refusal, "`model.layers.0.block_sparse_moe.experts.0.w1.weight`", "but `model.layers.0.mlp.", "harm − base")
    with pytest.raises(ModelError, match="block_sparse_moe"):
        saliency_scores(model, [Example((3, 7, 11), 1)], plan.names)
