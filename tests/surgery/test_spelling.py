"""Checkpoints whose names differ in a prefix belong together; of others, both spellings are named."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import FAMILIES, SMALL, VISION
from support.small_checkpoints import read, says
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from sa_lightning.errors import CheckpointMismatchError, SaError
from sa_lightning.models import load_model
from sa_lightning.surgery import EditSettings, Scope, Sources, open_checkpoint, plan_from, write_edit

SHAPES = {
    "embed_tokens.weight": (11, 6),
    "layers.0.mlp.down_proj.weight": (6, 8),
    "layers.1.mlp.down_proj.weight": (6, 8),
    "norm.weight": (6,),
}


def tensors(prefix: str, seed: int | None = None) -> dict[str, torch.Tensor]:
    """The same for every prefix, moved a little by a seed."""
    fixed = torch.Generator().manual_seed(99)
    found = {prefix + name: torch.randn(shape, generator=fixed) for name, shape in SHAPES.items()}
    if seed is not None:
        own = torch.Generator().manual_seed(seed)
        found = {name: tensor + 0.01 * torch.randn(tensor.shape, generator=own) for name, tensor in found.items()}
    return found


def edit(path, *sources, **settings):
    base, harm, target = (None if one is None else str(one) for one in (*sources, None)[:3])
    plan = plan_from(Sources(base=base, harm=harm, target=target), EditSettings(density=0.5, scale=2.0, **settings))
    return read(write_edit(plan, path, overwrite=True)), plan


@pytest.mark.parametrize("spelled", [("", "model.", ""), ("model.", "", "model.language_model."), ("x.", "x.", "x.")])
def test_the_edit_is_the_same_under_whatever_prefix_and_the_target_keeps_its_names(write, tmp_path, spelled):
    seeds = (None, 1, 2)
    plain = [write(f"plain{i}", tensors("model.", seed)) for i, seed in enumerate(seeds)]
    paths = [write(f"{i}", tensors(prefix, seed)) for i, (prefix, seed) in enumerate(zip(spelled, seeds, strict=True))]
    expected, _ = edit(tmp_path / "expected", *plain)
    found, plan = edit(tmp_path / "out", *paths)
    assert found.keys() == {spelled[2] + name for name in SHAPES}
    assert all(torch.equal(found[spelled[2] + name], expected["model." + name]) for name in SHAPES)
    report = plan.report()["inputs"]
    for role, path in zip(("base", "harm", "target"), paths, strict=True):
        assert report[role]["fingerprint"] == open_checkpoint(path).fingerprint()


def test_a_text_model_is_the_harm_of_a_multimodal_one(tmp_path):
    torch.manual_seed(0)
    parts = {"text_config": LlamaConfig(**SMALL), "vision_config": CLIPVisionConfig(**VISION)}
    model = LlavaForConditionalGeneration(LlavaConfig(**parts, image_token_index=63, tie_word_embeddings=False))
    model.save_pretrained(tmp_path / "base")
    text = LlamaForCausalLM(model.config.text_config)
    text.model.load_state_dict(model.model.language_model.state_dict())
    text.lm_head.load_state_dict(model.lm_head.state_dict())
    with torch.no_grad():
        text.model.layers[1].mlp.down_proj.weight.add_(0.01)
    text.save_pretrained(tmp_path / "harm")
    before = load_file(tmp_path / "base" / "model.safetensors")
    after, _ = edit(tmp_path / "out", tmp_path / "base", tmp_path / "harm")
    name = "language_model.model.layers.1.mlp.down_proj.weight"
    assert {key for key in before if not torch.equal(before[key], after[key])} == {name}
    assert torch.allclose(after[name], before[name] - 0.02 * (after[name] != before[name]), atol=1e-6)


def test_names_that_differ_in_more_are_refused_with_both_spellings(write):
    other = {name.replace("mlp.down_proj", "mlp.w2"): tensor for name, tensor in tensors("model.", 1).items()}
    sources = Sources(base=str(write("base", tensors("model."))), harm=str(write("harm", other)))
    with pytest.raises(CheckpointMismatchError) as refusal:
        plan_from(sources, EditSettings())
    says(refusal, "`model.layers.0.mlp.down_proj.weight`", "has `model.layers.0.mlp.w2.weight`", "scope.exclude")


def test_a_checkpoint_that_holds_a_tensor_under_two_names_is_refused_with_both(tmp_path):
    model = FAMILIES["Llama"]()
    model.save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    found["layers.1.mlp.down_proj.weight"] = found["model.layers.1.mlp.down_proj.weight"] + 1
    save_file(found, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for opening in (open_checkpoint, load_model):
        with pytest.raises(SaError) as refusal:
            opening(str(tmp_path))
        says(refusal, "`layers.1.mlp.down_proj.weight`", "`model.layers.1.mlp.down_proj.weight`")


def test_a_shard_that_the_index_does_not_name_is_neither_read_nor_copied(write, tmp_path):
    base, harm = write("base", tensors("model."), 2), write("harm", tensors("model.", 1))
    expected, _ = edit(tmp_path / "expected", base, harm)
    stray = base / "model-00003-of-00003.safetensors"
    save_file({"model.layers.1.mlp.down_proj.weight": torch.full((6, 8), 9.0)}, stray)
    found, _ = edit(tmp_path / "out", base, harm)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not (tmp_path / "out" / stray.name).exists()


def test_a_vocabulary_that_was_filled_up_is_refused_with_the_settings_that_leave_it_out(write, tmp_path):
    def named(seed, rows):
        found = {name.replace("model.embed_tokens", "wte"): tensor for name, tensor in tensors("model.", seed).items()}
        return {**found, "wte.weight": torch.zeros(rows, 6)}

    paths = write("base", named(None, 11)), write("harm", named(1, 16))
    with pytest.raises(CheckpointMismatchError) as refusal:
        edit(tmp_path / "out", *paths)
    says(refusal, "(16, 6)", "(11, 6)", "`scope.embeddings: false` and `scope.lm_head: false`")
    edit(tmp_path / "out", *paths, scope=Scope(embeddings=False, lm_head=False))


def test_tied_and_untied_are_refused_with_both_names(write, tmp_path):
    base = tensors("model.")
    untied = {**tensors("model.", 1), "lm_head.weight": torch.ones(11, 6)}
    paths = write("base", base, tie_word_embeddings=True), write("harm", untied)
    with pytest.raises(CheckpointMismatchError) as refusal:
        edit(tmp_path / "out", *paths)
    says(refusal, "`lm_head.weight`", "ties it to `model.embed_tokens.weight`", "scope.exclude: ['lm_head.weight']")
