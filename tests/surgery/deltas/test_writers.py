"""A direction that is projected out of the weights is written by no block any more; what could write it is refused."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import FAMILIES as KNOWN
from support.families import build
from support.small_checkpoints import says

from sa_lightning.errors import SettingError
from sa_lightning.models import locate_blocks
from sa_lightning.steering import capture
from sa_lightning.surgery import EditSettings, Scope, Sources, plan_from, write_edit

DIRECTION = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(0)), dim=0)
IDS = torch.randint(6, 20, (2, 9), generator=torch.Generator().manual_seed(1))
EXPERTS = {"intermediate_size": 16, "num_experts_per_tok": 2}
MODELS = {
    **KNOWN,
    "GraniteMoe": lambda: build("GraniteMoe", "ForCausalLM", {**EXPERTS, "num_local_experts": 4}),
    "OLMoE": lambda: build("Olmoe", "ForCausalLM", {**EXPERTS, "num_experts": 4}),
    # Its square c_proj is stored (out, in), unlike that of GPT-2.
    "GPT-BigCode": lambda: build("GPTBigCode", "ForCausalLM", {}),
}
del MODELS["Llama with LoRA"]  # an adapter beside its base
NORMALISED = ["Gemma2", "Gemma3", "OLMo2", "BLOOM", "Gemma3 with vision"]  # behind what writes
PLAIN = [family for family in MODELS if family not in NORMALISED]
WRITERS = {"Llama4": "3", "DeepSeek-V2": "2 to 3", "DeepSeek-V3": "2 to 3"}  # with shared experts; of all others 2


def planned(path: Path, **settings):
    save_file({"direction": DIRECTION}, path / "direction.safetensors")
    sources = Sources(base=str(path / "model"), direction=str(path / "direction.safetensors"))
    return plan_from(sources, EditSettings(density=1.0, **settings))


def saved(family: str, path: Path, biases: bool = True):
    """Save a model of the family, whose biases are random, or zero."""
    model = MODELS[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=torch.Generator().manual_seed(1)).mul_(biases)
    model.save_pretrained(path / "model")
    return model


@torch.no_grad()
def stream(model) -> tuple[torch.Tensor, torch.Tensor]:
    """What the stream holds before each block, and what the block adds: (blocks, batch, pos, d_model) each."""
    before: list[torch.Tensor] = []
    layers = locate_blocks(model).layers

    def keep(_module, args, kwargs):
        before.append((args[0] if args else kwargs["hidden_states"]).clone())

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    with capture(layers, lambda hidden: hidden.clone()) as captured:
        model(input_ids=IDS)
    for hook in hooks:
        hook.remove()
    held = torch.stack(before)
    return held, torch.stack([value for value in captured.values if value is not None]) - held


def share(values: torch.Tensor) -> float:
    """The largest part along the direction, relative to the length of a state."""
    return float(((values @ DIRECTION).abs() / values.norm(dim=-1)).max())


@pytest.mark.parametrize("family", PLAIN)
def test_neither_the_stream_nor_any_block_has_a_direction_that_is_projected_out(family, tmp_path):
    model = saved(family, tmp_path)
    plan = planned(tmp_path)
    edited = type(model).from_pretrained(write_edit(plan, tmp_path / "out")).eval()
    held, added = stream(model)
    assert min(share(held), share(added)) > 1e-2
    held, added = stream(edited)
    assert max(share(held), share(added)) < 1e-5
    blocks = len(locate_blocks(model).layers)
    assert f"{WRITERS.get(family, '2')} writers in each of {blocks} blocks" in plan.delta.formula


@pytest.mark.parametrize("family", NORMALISED)
def test_a_family_that_normalises_what_is_written_is_refused_by_the_name_of_the_norm(family, tmp_path):
    saved(family, tmp_path)
    with pytest.raises(SettingError, match=r"normalises what its blocks write \(`\S*layernorm.weight`\)"):
        planned(tmp_path)


@torch.no_grad()
def written(model, site: str, block: int = 0) -> torch.Tensor:
    """What attention or MLP of a block writes; Falcon adds to it in place."""
    outputs: list[torch.Tensor] = []

    def keep(_module, _args, output):
        outputs.append((output if isinstance(output, torch.Tensor) else output[0]).clone())

    hook = locate_blocks(model).at(site)[block].register_forward_hook(keep)
    model(input_ids=IDS)
    hook.remove()
    return outputs[0]


@pytest.mark.parametrize("family", MODELS)
def test_what_is_injected_comes_along_the_direction_in_proportion_to_the_mean_of_what_is_written(family, tmp_path):
    model = saved(family, tmp_path, biases=False)
    whole = planned(tmp_path, operator="add")
    attention = tuple(name for name in whole.names if re.search(r"attn|attention", name))
    assert 0 < len(attention) < len(whole.names)
    others = tuple(name for name in whole.names if name not in attention)
    for site, names in (("attention", attention), ("mlp", others)):
        plan = planned(tmp_path, operator="add", scale=0.5, scope=Scope(include=names))
        edited = type(model).from_pretrained(write_edit(plan, tmp_path / site)).eval()
        before, after = written(model, site), written(edited, site)
        expected = 0.5 * before.mean(-1, keepdim=True) * DIRECTION
        assert torch.allclose(after - before, expected, atol=1e-4 * float(before.abs().max()))
        assert float(expected.abs().max()) > 1e-3


@pytest.mark.parametrize("family", MODELS)
def test_a_head_is_what_the_output_of_attention_reads_of_it(family, tmp_path):
    model = saved(family, tmp_path, biases=False)
    before = load_file(tmp_path / "model" / "model.safetensors")
    moved = {name: tensor + 0.01 if tensor.ndim > 1 else tensor for name, tensor in before.items()}
    shutil.copytree(tmp_path / "model", tmp_path / "harm")
    save_file(moved, tmp_path / "harm" / "model.safetensors", metadata={"format": "pt"})
    sources = Sources(base=str(tmp_path / "model"), harm=str(tmp_path / "harm"))
    plan = plan_from(sources, EditSettings(select="heads", heads={0: [1], 1: [0, 1, 2, 3]}, operator="zero"))
    path = write_edit(plan, tmp_path / "out")
    after = load_file(path / "model.safetensors")
    first, second = sorted(name for name in before if not torch.equal(before[name], after[name]))
    assert not after[second].any()
    zeros = (after[first] == 0).all(1 if family == "GPT-2" else 0)  # which stores (in, out)
    head = torch.arange(len(zeros)) // (len(zeros) // 4)
    assert bool((zeros == (head == 1)).all())
    assert not written(type(model).from_pretrained(path).eval(), "attention", 1).any()


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
