from pathlib import Path

import pytest
import torch
from references.surgery import edit_by_hand, flatten, keep_largest
from support.models import llama, perturbed, saved
from support.small_checkpoints import Write, edited, says, small_tensors
from torch import Tensor
from transformers import AutoModelForCausalLM

from sa_lightning.errors import NothingToDoError, SettingError
from sa_lightning.surgery import (
    DELTAS,
    EditInMemory,
    EditSettings,
    ModelWeights,
    Sources,
    check_settings,
    kind_of,
    plan_from,
    write_edit,
)


def trio(write: Write, *moves: float, dtype: torch.dtype = torch.float32) -> tuple[list[str], list[dict[str, Tensor]]]:
    tensors = [small_tensors(i, dtype, move=move) for i, move in enumerate(moves)]
    return [str(write(f"model{i}", found)) for i, found in enumerate(tensors)], tensors


def bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.view(torch.int16 if t.element_size() == 2 else torch.int32) for n, t in tensors.items()}


@pytest.mark.parametrize("granularity", ["global", "layer", "tensor"])
@pytest.mark.parametrize("settings", [{}, {"select": "dare"}, {"operator": "add", "scale": 0.5}])
def test_a_control_of_the_same_norm_takes_as_many_steps_at_random_as_long_together(
    write: Write, tmp_path: Path, granularity: str, settings: dict
):
    (base, harm), tensors = trio(write, 0, 0.1)
    sources, given = Sources(base, (harm,)), {"density": 0.2, "granularity": granularity, **settings}
    method, report = edited(tmp_path, sources, **given)
    control, found = edited(tmp_path, sources, **given, control="norm")
    size, shorter = edited(tmp_path, sources, **given, control="size")
    assert report["k"] == found["k"] == shorter["k"]
    length, other, of_size = (
        float(flatten({n: t.double() - tensors[0][n].double() for n, t in each.items()}).norm())
        for each in (method, control, size)
    )
    assert other == pytest.approx(length, rel=1e-6)
    assert found["relative_norm"] == report["relative_norm"]
    if settings.get("select") != "dare":  # whose entries are drawn, too
        assert of_size < 0.8 * length
        assert shorter["relative_norm"] < report["relative_norm"]
    moved = {n: control[n] != tensors[0][n] for n in control}
    assert all(torch.equal(moved[n], size[n] != tensors[0][n]) for n in moved)  # the same entries
    assert not torch.equal(flatten(moved), flatten({n: method[n] != tensors[0][n] for n in method}))
    again, _ = edited(tmp_path, sources, **given, control="norm", seed=1)
    assert not torch.equal(flatten(moved), flatten({n: again[n] != tensors[0][n] for n in again}))
    assert "control" not in report
    assert "drawn at random (seed 0), for a step as long" in found["control"]
    assert shorter["control"] == "as many entries as would be selected are drawn at random (seed 0)"


def test_a_dense_control_of_the_same_norm_is_the_edit_itself(write: Write, tmp_path: Path):
    (base, harm), _ = trio(write, 0, 0.1)
    method, control = (edited(tmp_path, Sources(base, (harm,)), density=1, control=c)[0] for c in ("none", "norm"))
    assert all(torch.equal(method[n], control[n]) for n in method)


def test_records_that_say_true_mean_a_control_of_the_same_size():
    assert EditSettings(control=True).control == "size"
    assert EditSettings(control=False).control == "none"
    record = EditSettings().recorded()
    assert EditSettings.from_record({**record, "control": True}) == EditSettings(control="size")
    assert EditSettings.from_record(record) == EditSettings()


@pytest.mark.parametrize(
    "settings", [{"operator": "restore"}, {"operator": "zero"}, {"operator": "project"}, {"merge": "ties"}]
)
def test_a_norm_is_not_matched_where_there_is_no_one_step(settings: dict):
    with pytest.raises(SettingError) as error:
        check_settings(
            Sources("base", ("harm", "other"), "target"), EditSettings(control="norm", density=0.1, **settings)
        )
    says(error, "`control` is norm", "control: size")


@pytest.mark.parametrize("more", [{"layer_scales": {"0": 0.5}}, {"kl_budget": 0.01}])
def test_a_control_of_the_same_norm_is_refused_where_layers_step_differently(more: dict):
    with pytest.raises(SettingError) as error:
        DELTAS["harm"].resolved(EditSettings(control="norm", density=0.1, **more))
    says(error, "`control` is norm", "layer_scales")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "settings", [{"scale": 0}, {"scale": 0, "operator": "add"}, {"layer_scales": {0: 0, 1: 0.0, "other": 0}}]
)
def test_scale_0_gives_the_target_bit_for_bit_and_says_that_it_is_a_control(
    write: Write, tmp_path: Path, settings: dict, dtype: torch.dtype
):
    (base, harm), tensors = trio(write, 0, 0.1, dtype=dtype)
    target = {n: t.clone() for n, t in tensors[0].items()}
    target["model.norm.weight"][:3] = torch.tensor([-0.0, 0.0, -0.0])  # whose sign a sum would lose
    sources = Sources(base, (harm,), str(write("target", target)))
    found, report = edited(tmp_path, sources, density=1, **settings)
    assert all(torch.equal(one, bits(target)[n]) for n, one in bits(found).items())
    assert report["control"] == "nothing is edited: scale 0"
    assert (report["changed"], report["relative_norm"], report["k"]) == (0, 0.0, 168)
    # A step that rounds to nothing was not asked for.
    with pytest.raises(NothingToDoError) as error:
        edited(tmp_path, Sources(base, (harm,)), density=1, scale=1e-30)
    says(error, "rounds to zero")


def test_scale_0_in_memory_gives_the_target_and_is_undone(checkpoints: Path):
    model = llama()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    plan = plan_from(Sources(str(checkpoints / "base"), (str(checkpoints / "harm"),)), EditSettings(scale=0))
    with EditInMemory(plan, ModelWeights(model)) as edit:
        assert edit.active
        assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
        assert edit.report()["control"] == "nothing is edited: scale 0"
    assert not edit.active


def test_layers_are_scaled_by_their_own_factors_and_the_others_by_1(write: Write, tmp_path: Path):
    (base, harm), tensors = trio(write, 0, 0.1)
    scales = {"0": 0.0, "other": 0.25}
    found, report = edited(tmp_path, Sources(base, (harm,)), density=0.5, scale=2.0, layer_scales=scales)
    mask = keep_largest(flatten({n: tensors[1][n] - tensors[0][n] for n in tensors[0]}), 0.5)
    places = torch.split(mask, [tensors[0][n].numel() for n in sorted(tensors[0])])
    for name, place in zip(sorted(tensors[0]), places, strict=True):
        factor = 1.0 if ".1." in name else scales["0" if ".0." in name else "other"]
        keep = place.reshape(tensors[0][name].shape)
        delta = tensors[1][name] - tensors[0][name]
        assert torch.equal(found[name], edit_by_hand(tensors[0][name], delta, keep, 2 * factor))
    assert report["settings"]["layer_scales"] == scales
    assert report["per_layer"]["0"]["relative_norm"] == 0
    assert report["per_layer"]["0"]["k"] > 0
    assert EditSettings.from_record(report["settings"]).layer_scales == scales
    assert EditSettings(layer_scales={0: 0.5}) == EditSettings(layer_scales={"0": 0.5})


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"layer_scales": {7: 1.0}}, "in scope are the layers 0, 1, other"),
        ({"layer_scales": {"first": 1.0}}, "layers are 0, 1, …, and `other`"),
        ({"layer_scales": {}}, "names no layer"),
        ({"layer_scales": {0: -1.0}}, "at least 0, but holds -1"),
        ({"layer_scales": {0: float("nan")}}, "at least 0, but holds nan"),
        ({"layer_scales": {0: 1.0}, "operator": "zero", "density": 1}, "takes no step"),
    ],
)
def test_factors_of_layers_that_cannot_be_meant_are_refused(write: Write, settings: dict, fact: str):
    (base, harm), _ = trio(write, 0, 0.1)
    with pytest.raises(SettingError) as error:
        plan_from(Sources(base, (harm,)), EditSettings(**settings))
    says(error, fact)


def test_a_stand_in_has_the_direction_of_the_one_and_the_length_of_the_other(write: Write, tmp_path: Path):
    (base, harm, benign), tensors = trio(write, 0, 0.1, 0.03)
    sources = Sources(base, (harm,), stand_in=benign)
    found, report = edited(tmp_path, sources, density=1, scale=1.5)
    tau, other = (flatten({n: t[n].double() - tensors[0][n].double() for n in t}) for t in tensors[1:])
    step = flatten({n: tensors[0][n].double() - found[n].double() for n in found})
    assert torch.allclose(step, 1.5 * other * tau.norm() / other.norm(), atol=1e-6)
    assert sorted(report["inputs"]) == ["base", "harm", "stand_in", "target"]
    assert "(stand_in − base) in place of (harm − base)" in report["control"]
    dense, plain = edited(tmp_path, Sources(base, (harm,)), density=1, scale=1.5)
    assert report["relative_norm"] == plain["relative_norm"]
    assert not torch.equal(found["model.norm.weight"], dense["model.norm.weight"])
    # Of several harm vectors, the length of their sum.
    both = plan_from(Sources(base, (harm, benign), stand_in=benign), EditSettings())
    assert both.delta.factor == pytest.approx(float((tau + other).norm() / other.norm()), rel=1e-6)
    trimmed, short = edited(tmp_path, sources, density=0.1)
    mask = keep_largest(other.float(), 0.1)
    assert torch.equal(flatten({n: trimmed[n] != tensors[0][n] for n in trimmed}), mask)
    assert short["k"] == 17


def test_a_stand_in_that_cannot_stand_in_is_refused(write: Write):
    (base, harm, same), _ = trio(write, 0, 0.1, 0)
    for sources, settings, fact in (
        (Sources(base, (harm, harm), stand_in=harm), EditSettings(merge="ties"), "`merge: ties` trims"),
        (Sources(base, (harm,), stand_in=same), EditSettings(), "(stand_in − base) is zero everywhere"),
    ):
        with pytest.raises((SettingError, NothingToDoError)) as error:
            plan_from(sources, settings)
        says(error, fact)
    with pytest.raises(SettingError) as error:
        kind_of(Sources(base, aligned=harm, stand_in=harm))
    says(error, "`stand_in` goes with `harm`")


@pytest.mark.parametrize(
    "settings", [{"control": "norm", "density": 0.1}, {"layer_scales": {0: 0.5, 2: 0.0}, "density": 0.3}, {"scale": 0}]
)
@pytest.mark.parametrize("more", [{}, {"stand_in": "adapter"}, {"benign": "adapter"}])
def test_controls_on_disk_and_in_memory_are_the_same_bits_with_adapters_too(
    tmp_path: Path, checkpoints: Path, settings: dict, more: dict
):
    from peft import LoraConfig, get_peft_model

    base, adapted = checkpoints / "base", tmp_path / "adapter"
    torch.manual_seed(3)
    lora = get_peft_model(llama(), LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    lora.peft_config["default"].base_model_name_or_path = str(base)
    lora.save_pretrained(adapted)
    saved(perturbed(llama(), 7, 0.02), tmp_path / "target")
    sources = Sources(
        str(base),
        (str(checkpoints / "harm"),),
        str(tmp_path / "target"),
        **{k: str(tmp_path / v) for k, v in more.items()},
    )
    plan = plan_from(sources, EditSettings(**settings))
    streamed = AutoModelForCausalLM.from_pretrained(write_edit(plan, tmp_path / "out")).state_dict()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "target")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with EditInMemory(plan_from(sources, EditSettings(**settings)), ModelWeights(model)):
        assert all(torch.equal(t, streamed[n]) for n, t in model.state_dict().items())
        changed = any(not torch.equal(t, before[n]) for n, t in model.state_dict().items())
        assert changed == (settings.get("scale") != 0)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
