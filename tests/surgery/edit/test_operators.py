import json
from pathlib import Path

import pytest
import torch
from references.surgery import flatten, keep_largest, knowledge_edited_by_hand
from support.models import gpt2, llama, perturbed, saved
from support.small_checkpoints import Write, edited, says, small_tensors
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    Qwen2Config,
)

from sa_lightning.errors import CheckpointMismatchError, NothingToDoError, SettingError, StepTooLargeError
from sa_lightning.surgery import (
    EditInMemory,
    EditSettings,
    ModelWeights,
    Scope,
    Sources,
    changed_layers,
    check_settings,
    open_checkpoint,
    plan_from,
    write_edit,
)


def three(write: Write, dtype: torch.dtype = torch.float32) -> tuple[list[str], list[dict[str, Tensor]]]:
    tensors = [small_tensors(i, dtype, move=0.1 * min(i, 1)) for i in range(3)]
    return [str(write(n, t)) for n, t in zip(("base", "harm", "target"), tensors, strict=True)], tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_and_restore_put_values_where_the_harm_vector_is_large(write: Write, tmp_path: Path, dtype: torch.dtype):
    (base, harm, target), tensors = three(write, dtype)
    mask = keep_largest(flatten({n: tensors[1][n].float() - tensors[0][n].float() for n in tensors[0]}), 0.3)
    sources = Sources(base, (harm,), target)
    for operator, value in (("zero", torch.zeros(168)), ("restore", flatten(tensors[0]).float())):
        found = flatten(edited(tmp_path, sources, operator=operator, density=0.3, ties="keep")[0])
        expected = torch.where(mask, value.to(dtype), flatten(tensors[2]))
        assert torch.equal(found, expected)


def test_without_a_harm_vector_the_weights_own_size_or_change_decides(write: Write, tmp_path: Path):
    (base, _, target), tensors = three(write)
    found = flatten(edited(tmp_path, Sources(base, target=target), operator="zero", density=0.3)[0])
    mask = keep_largest(flatten(tensors[2]), 0.3)
    assert torch.equal(found, torch.where(mask, 0.0, flatten(tensors[2])))
    found = flatten(edited(tmp_path, Sources(base, target=target), operator="restore", density=0.3)[0])
    mask = keep_largest(flatten(tensors[2]) - flatten(tensors[0]), 0.3)
    assert torch.equal(found, torch.where(mask, flatten(tensors[0]), flatten(tensors[2])))
    found = flatten(edited(tmp_path, Sources(base, target=target), operator="restore", density=1.0)[0])
    assert torch.equal(found, flatten(tensors[0]))
    with pytest.raises(SettingError) as error:
        plan_from(Sources(base, target=target), EditSettings(operator="zero"))
    says(error, "needs a `density`")
    with pytest.raises(SettingError) as error:
        check_settings(Sources(base), EditSettings(operator="restore", density=1))
    says(error, "`target` is not set")


def test_project_leaves_nothing_of_the_targets_change_along_the_harm_vector(write: Write, tmp_path: Path):
    (base, harm, target), tensors = three(write)
    found = edited(tmp_path, Sources(base, (harm,), target), operator="project", density=1)[0]
    before = after = 0.0
    for name in tensors[0]:
        tau = (tensors[1][name] - tensors[0][name]).reshape(-1).double()
        before += abs(float((tensors[2][name] - tensors[0][name]).reshape(-1).double() @ tau))
        after += abs(float((found[name] - tensors[0][name]).reshape(-1).double() @ tau))
    assert before > 0.1
    assert after < 1e-5
    report = json.loads((tmp_path / "out" / "surgery.json").read_text())
    assert set(report["coefficients"]) == set(tensors[0])
    assert report["settings"]["scale"] == 1.0
    with pytest.raises(SettingError) as error:
        plan_from(Sources(base, (harm,)), EditSettings(operator="project"))
    says(error, "they are the same", "--target")


def test_adding_and_subtracting_mirror_each_other(write: Write, tmp_path: Path):
    (base, harm, _), tensors = three(write)
    less = edited(tmp_path, Sources(base, (harm,)), density=0.5, scale=1.5)[0]
    more = edited(tmp_path, Sources(base, (harm,)), density=0.5, scale=1.5, operator="add")[0]
    for name in less:
        assert torch.allclose(less[name] + more[name], 2 * tensors[0][name], atol=1e-6)


def test_steps_that_mean_nothing_are_refused(write: Write):
    (base, harm, target), _ = three(write)
    for settings, fact in (
        ({"operator": "zero", "scale": 2.0, "density": 1}, "takes no step"),
        ({"select": "heads"}, "belong together"),
        ({"heads": {0: [1]}}, "belong together"),
        ({"select": "heads", "heads": {0: [1]}, "density": 0.5}, "all that `heads` names"),
    ):
        with pytest.raises(SettingError) as error:
            EditSettings(**settings)
        says(error, fact)
    with pytest.raises(NothingToDoError) as error:
        plan_from(Sources(base, (harm,), target), EditSettings(scope=Scope(edit_area=True), density=1e-9))
    says(error, "Nothing would be selected")


def four_blocks(move: dict[int, float], seed: int) -> dict[str, Tensor]:
    fixed, own = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
    tensors = {"model.embed_tokens.weight": torch.randn(5, 4, generator=fixed)}
    for layer in range(8):
        tensors[f"model.layers.{layer}.mlp.down_proj.weight"] = torch.randn(4, 6, generator=fixed)
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = torch.randn(6, 4, generator=fixed)
    for layer, size in move.items():
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        tensors[name] = tensors[name] + size * torch.randn(4, 6, generator=own)
    return tensors


@pytest.mark.parametrize(("changed", "area"), [([5], [4, 5, 6]), ([0], [0, 1]), ([2, 6], [1, 2, 3, 5, 6, 7])])
def test_the_edit_area_is_where_the_target_differs_and_its_neighbours(
    write: Write, tmp_path: Path, changed: list[int], area: list[int]
):
    base, target = four_blocks({}, 0), four_blocks(dict.fromkeys(changed, 0.1), 1)
    harm = four_blocks(dict.fromkeys(range(8), 0.1), 2)
    harm["model.embed_tokens.weight"] = base["model.embed_tokens.weight"] + 1
    paths = [str(write(n, t)) for n, t in (("base", base), ("harm", harm), ("target", target))]
    assert changed_layers(open_checkpoint(paths[0]), open_checkpoint(paths[2])) == set(changed)
    sources = Sources(paths[0], (paths[1],), paths[2])
    found = edited(tmp_path, sources, density=0.5, scale=3.0, scope=Scope(edit_area=True))[0]
    report = json.loads((tmp_path / "out" / "surgery.json").read_text())
    assert report["edit_area"] == [layer for layer in area if layer < 8]
    inside = {n for n in base for layer in area if f".{layer}." in n}
    assert all(torch.equal(found[n], target[n]) for n in set(base) - inside)
    tau = flatten({n: harm[n] - base[n] for n in inside})
    mask = keep_largest(tau, 0.5)
    expected = torch.where(
        mask, flatten({n: target[n] for n in inside}) - 3 * tau, flatten({n: target[n] for n in inside})
    )
    assert torch.allclose(flatten({n: found[n] for n in inside}), expected, atol=1e-6)
    assert report["n"] == tau.numel()
    with pytest.raises(NothingToDoError) as error:
        plan_from(Sources(paths[0], (paths[1],)), EditSettings(scope=Scope(edit_area=True)))
    says(error, "none does", "--target")
    # The authors' code subtracts the whole harm vector outside the area.
    scope = Scope(edit_area=True, outside="whole")
    found, report = edited(tmp_path, sources, density=0.5, scale=3.0, scope=scope)
    expected = knowledge_edited_by_hand(target, {n: harm[n] - base[n] for n in base}, area, 0.5, 3.0)
    assert all(torch.allclose(found[n], expected[n], atol=1e-6) for n in base)
    assert any(not torch.equal(found[n], target[n]) for n in set(base) - inside)
    assert report["n"] == flatten(base).numel()
    assert report["k"] == int(mask.sum()) + report["n"] - mask.numel()
    assert report["edit_area"] == [layer for layer in area if layer < 8]
    assert "by mistake" in report["control"]


def test_the_whole_vector_outside_needs_an_edit_area_and_no_factor_inside():
    for settings, fact in (
        ({"scope": Scope(outside="whole")}, "`scope.edit_area` is false"),
        ({"scope": Scope(edit_area=True, outside="whole"), "select": "dare"}, "is rescaled"),
        ({"scope": Scope(edit_area=True, outside="whole"), "control": "norm"}, "is rescaled"),
    ):
        with pytest.raises(SettingError) as error:
            EditSettings(**settings)
        says(error, fact)


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 40,
    "max_position_embeddings": 32,
}
FAMILIES = {
    "llama tied": LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2 tied": Qwen2Config(**SMALL, num_key_value_heads=2, tie_word_embeddings=True),
    "gemma tied": GemmaConfig(**SMALL, num_key_value_heads=2, head_dim=8),
    "opt tied": OPTConfig(
        vocab_size=40, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, word_embed_proj_dim=32,
    ),
    "neox untied": GPTNeoXConfig(**SMALL),
    "mixtral, experts apart on disk": MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4),
}  # fmt: skip


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2 tied"])
def test_families_load_after_an_edit_and_tied_tensors_move_once(tmp_path: Path, family: str):
    torch.manual_seed(0)
    base = gpt2() if family == "gpt2 tied" else AutoModelForCausalLM.from_config(FAMILIES[family])
    base.save_pretrained(tmp_path / "base")
    perturbed(base, 1, 0.02).save_pretrained(tmp_path / "harm")
    settings = EditSettings(density=1, scale=1)
    plan = plan_from(Sources(str(tmp_path / "base"), (str(tmp_path / "harm"),)), settings)
    out = write_edit(plan, tmp_path / "out")
    before, harm, after = (AutoModelForCausalLM.from_pretrained(tmp_path / n) for n in ("base", "harm", "out"))
    moved = dict(zip(*(list(t) for t in (before.state_dict(), before.state_dict().values())), strict=True))
    for name, tensor in after.state_dict().items():
        if tensor.is_floating_point():
            expected = 2 * moved[name] - harm.state_dict()[name]
            assert torch.allclose(tensor, expected, atol=1e-5), name
    parameters = sum(p.numel() for p in before.parameters())
    assert json.loads((out / "surgery.json").read_text())["n"] == parameters
    if "tied" in family and "untied" not in family:
        assert after.get_input_embeddings().weight is after.get_output_embeddings().weight


def test_a_fused_expert_tensor_is_just_a_tensor(write: Write, tmp_path: Path):
    shapes = {"model.layers.0.mlp.experts.gate_up_proj": (4, 6, 10), "model.layers.0.mlp.experts.down_proj": (4, 5, 6)}
    torch.manual_seed(0)
    base = {n: torch.randn(s) for n, s in shapes.items()}
    harm = {n: t + 0.1 * torch.randn(t.shape) for n, t in base.items()}
    found = edited(tmp_path, Sources(str(write("base", base)), (str(write("harm", harm)),)), density=0.25, scale=1)[0]
    tau = flatten({n: harm[n] - base[n] for n in base})
    mask = keep_largest(tau, 0.25)
    assert torch.equal(flatten(found), torch.where(mask, flatten(base) - tau, flatten(base)))
    assert {n: tuple(t.shape) for n, t in found.items()} == shapes


@pytest.mark.parametrize(
    "settings",
    [
        {"select": "dare", "density": 0.3},
        {"select": "random", "density": 0.3},
        {"operator": "add"},
        {"scope": Scope(edit_area=True), "density": 0.5},
        {"scope": Scope(edit_area=True, outside="whole"), "density": 0.5},
        {"operator": "zero", "density": 0.01},
        {"operator": "project", "density": 0.5},
    ],
)
def test_every_edit_in_memory_is_the_streamed_one_and_is_undone(tmp_path: Path, settings: dict):
    for name, model in (("base", llama()), ("harm", perturbed(llama(), 1)), ("target", llama())):
        if name == "target":
            model.model.layers[1].mlp.down_proj.weight.data += 0.1
        saved(model, tmp_path / name)
    sources = Sources(*(str(tmp_path / "base"), (str(tmp_path / "harm"),), str(tmp_path / "target")))
    plan = plan_from(sources, EditSettings(**settings))
    streamed = AutoModelForCausalLM.from_pretrained(write_edit(plan, tmp_path / "out")).state_dict()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "target")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with EditInMemory(plan_from(sources, EditSettings(**settings)), ModelWeights(model)):
        assert all(torch.equal(t, streamed[n]) for n, t in model.state_dict().items())
        assert any(not torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_what_dare_rescales_is_not_projected_further_than_all_of_it(write: Write, tmp_path: Path):
    (base, harm, target), tensors = three(write)
    for select in ("dare", "random"):
        found = edited(tmp_path, Sources(base, (harm,), target), operator="project", select=select, density=0.5)[0]
        for name in tensors[0]:
            moved = found[name] != tensors[2][name]
            tau = ((tensors[1][name] - tensors[0][name]) * moved).reshape(-1).double()
            left = (found[name] - tensors[0][name]).reshape(-1).double() @ tau
            assert abs(float(left)) < 1e-5


def test_a_target_that_ties_what_the_delta_has_apart_is_refused(write: Write):
    head, name = "lm_head.weight", "model.embed_tokens.weight"
    base, harm = small_tensors(0), small_tensors(1, move=0.1)
    paths = [
        str(write("base", {**base, head: torch.randn(11, 6)})),
        str(write("harm", {**harm, head: torch.randn(11, 6)})),
        str(write("target", {**base, head: base[name].clone()}, tie_word_embeddings=True)),
    ]
    with pytest.raises(CheckpointMismatchError) as error:
        plan_from(Sources(paths[0], (paths[1],), paths[2]), EditSettings())
    says(error, "`lm_head.weight`", "ties it to `model.embed_tokens.weight`", "scope.exclude")


@pytest.mark.parametrize("scope", [Scope(layers=(1, 1)), Scope()])
def test_values_that_a_narrower_type_cannot_hold_are_refused_in_and_out_of_scope(write: Write, tmp_path: Path, scope):
    base, harm = small_tensors(0, torch.bfloat16), small_tensors(1, torch.bfloat16, move=0.1)
    base["model.norm.weight"][0] = harm["model.norm.weight"][0] = 1e6
    plan = plan_from(
        Sources(str(write("base", base)), (str(write("harm", harm)),)), EditSettings(dtype="float16", scope=scope)
    )
    with pytest.raises(StepTooLargeError) as error:
        write_edit(plan, tmp_path / "out")
    says(error, "`model.norm.weight`", "torch.float16")


def test_the_edit_area_is_found_beside_excluded_embeddings_of_another_size(write: Write):
    base, target, harm = four_blocks({}, 0), four_blocks({5: 0.1}, 1), four_blocks({5: 0.1, 1: 0.1}, 2)
    target["model.embed_tokens.weight"] = torch.zeros(9, 4)
    paths = [str(write(n, t)) for n, t in (("base", base), ("harm", harm), ("target", target))]
    plan = plan_from(
        Sources(paths[0], (paths[1],), paths[2]), EditSettings(scope=Scope(edit_area=True, exclude=("*embed_tokens*",)))
    )
    assert plan.delta.scope.blocks == {4, 5, 6}
