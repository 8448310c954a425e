"""A direction that is projected out of the weights is written by no block any more; what could write it is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import FAMILIES as KNOWN
from support.small_checkpoints import says
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, GraniteMoeConfig, GraniteMoeForCausalLM

from sa_lightning.errors import SettingError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import capture
from sa_lightning.surgery import EditSettings, Scope, Sources, plan_from, write_edit

DIRECTION = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(0)), dim=0)
SIZES = {"vocab_size": 64, "pad_token_id": None, "tie_word_embeddings": False, "initializer_range": 0.3}


def granite_moe():
    sizes = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}
    return GraniteMoeForCausalLM(GraniteMoeConfig(**SIZES, **sizes, **experts))


def big_code():
    """Its square c_proj is stored (out, in), unlike that of GPT-2."""
    return GPTBigCodeForCausalLM(GPTBigCodeConfig(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64))


MODELS = {"granite_moe": granite_moe, "big_code": big_code}
FAMILIES = ["Llama", "GPT-2", "GPT-OSS", "Phi", "Falcon", "Mixtral", "Llama4", "DeepSeek-V2", *MODELS]


def planned(path: Path, **settings):
    save_file({"direction": DIRECTION}, path / "direction.safetensors")
    sources = Sources(base=str(path / "model"), direction=str(path / "direction.safetensors"))
    return plan_from(sources, EditSettings(density=1.0, **settings))


def saved(family: str, path: Path):
    torch.manual_seed(0)
    model = (MODELS[family]() if family in MODELS else KNOWN[family]()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    model.save_pretrained(path / "model")
    return model


def written(model) -> torch.Tensor:
    """The largest part along the direction that any block adds to the stream."""
    before: list[torch.Tensor] = []
    layers = locate_blocks(model).layers

    def keep(_module, args, kwargs):
        before.append((args[0] if args else kwargs["hidden_states"]).clone())

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    ids = torch.randint(6, 20, (2, 9), generator=torch.Generator().manual_seed(1))
    with capture(layers, lambda hidden: hidden.clone()) as captured, torch.no_grad():
        model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    after = torch.stack([value for value in captured.values if value is not None])
    return ((after - torch.stack(before)) @ DIRECTION).abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_block_writes_a_direction_that_is_projected_out(family, tmp_path):
    model = saved(family, tmp_path)
    plan = planned(tmp_path, scope=Scope(embeddings=False))
    edited = type(model).from_pretrained(write_edit(plan, tmp_path / "out")).eval()
    assert written(model) > 0.1
    assert written(edited) < 1e-4
    count = {"Llama4": "3", "DeepSeek-V2": "2 to 3"}.get(family, "2")  # with shared experts
    assert f"{count} writers in each of {len(locate_blocks(model).layers)} blocks" in plan.delta.formula


@pytest.mark.parametrize("family", ["GPT-OSS", "granite_moe"])
def test_the_mean_row_of_each_expert_is_what_is_added_along_the_direction(family, tmp_path):
    saved(family, tmp_path)
    name = {"GPT-OSS": "experts.down_proj", "granite_moe": "output_linear.weight"}[family]
    before = load_file(tmp_path / "model" / "model.safetensors")
    after = load_file(write_edit(planned(tmp_path, operator="add"), tmp_path / "out") / "model.safetensors")
    for key in (key for key in before if key.endswith(name)):
        weight, moved = before[key], after[key] - before[key]
        if family == "GPT-OSS":  # (experts, in, out)
            weight, moved = weight.mT, moved.mT
        expected = DIRECTION[None, :, None] * weight.mean(1, keepdim=True)
        assert torch.allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize("operator", ["project", "add"])
def test_what_may_write_to_the_stream_and_is_not_known_is_refused_by_name(tmp_path, operator):
    saved("Llama", tmp_path)
    file = tmp_path / "model" / "model.safetensors"
    name = "model.layers.1.mlp.mystery.weight"
    save_file({**load_file(file), name: torch.ones(32, 5)}, file, metadata={"format": "pt"})
    with pytest.raises(SettingError) as error:
        planned(tmp_path, operator=operator, scope=Scope(embeddings=False))
    says(error, f"`{name}`", "(32, 5)", "not known by its name", f"scope.exclude: ['{name}']")
    planned(tmp_path, operator=operator, scope=Scope(embeddings=False, exclude=(name,)))


def test_experts_that_do_not_show_which_side_writes_are_refused(tmp_path):
    saved("Llama", tmp_path)
    file = tmp_path / "model" / "model.safetensors"
    name = "model.layers.1.mlp.experts.down_proj"
    save_file({**load_file(file), name: torch.ones(2, 32, 32)}, file, metadata={"format": "pt"})
    with pytest.raises(SettingError, match=r"does not show which side writes"):
        planned(tmp_path, scope=Scope(embeddings=False))
