import json
from pathlib import Path

import pytest
import torch
from references.surgery import flatten, orthogonalised_by_hand
from support.models import artifact_for, llama, perturbed, saved

from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.errors import DataError, SettingError
from sa_lightning.fitting import Surgery
from sa_lightning.fitting.examples import read_examples
from sa_lightning.models import load_tokenizer
from sa_lightning.module import CausalLMModule
from sa_lightning.surgery import Minus, Scope


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "harm", "harm2", "benign")):
        saved(perturbed(llama(), seed) if seed else llama(), root / name)
    rows = [{"prompt": "how do i bake a cake", "response": "first bake a cake ."}] * 2
    (root / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def loaded(target: Path) -> CausalLMModule:
    module = CausalLMModule(str(target))
    module.setup("validate")
    module.configure_model()
    return module


def edited(surgery: Surgery, module: CausalLMModule) -> dict[str, torch.Tensor]:
    surgery.open(str(module.target))
    surgery.apply(module.network, module.tokenizer, module.dtype_name)
    return {name: tensor.clone() for name, tensor in module.network.state_dict().items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"harm": "harm"},
        {"harm": ["harm", "harm2"], "weights": [1.0, 0.5], "merge": "ties"},
        {"harm": "harm", "benign": "benign", "granularity": "layer"},
        {"unaligned": "harm", "scale": 0.5},
        {"harm": "harm", "select": "snip", "prompts": "prompts.jsonl", "density": 0.05},
        {"harm": "harm", "select": "fisher", "prompts": "prompts.jsonl", "density": 0.05, "benign": "benign"},
        {"harm": "harm", "select": "heads", "heads": {1: [0, 2]}},
        {"harm": "harm", "stand_in": "benign", "layer_scales": {0: 0.5, "other": 0.0}},
        {"harm": "harm", "stand_in": "benign", "control": "norm"},
        {"harm": "harm", "minus": Minus(0.05, select="magnitude"), "scope": Scope(layers=(1, 2), norms=False)},
    ],
)
def test_a_surgery_is_redone_from_its_record_and_undone_bit_for_bit(models: Path, settings: dict):
    places = {"harm", "benign", "stand_in", "unaligned", "prompts"}
    given = {k: [str(models / p) for p in v] if isinstance(v, list) and k in places else
             str(models / v) if k in places else v for k, v in settings.items()}  # fmt: skip
    module = loaded(models / "base")
    before = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
    surgery = SurgeryCallback(**given).surgery
    first = edited(surgery, module)
    assert any(not torch.equal(first[name], before[name]) for name in before)
    record = json.loads(json.dumps(surgery.record()))  # as in the artifact
    surgery.undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.network.state_dict().items())
    again = Surgery.from_record(record)
    second = edited(again, module)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.record() == surgery.record()


def test_without_a_delta_there_is_no_surgery_and_nothing_may_be_set_of_it():
    for given in ({}, {"base": "b"}, {"density": 0.5}):
        surgery = SurgeryCallback(**given).surgery
        assert not surgery.wanted
        surgery.check_unused()
    for given in ({"prompts": "p.jsonl"}, {"operator": "zero"}):
        with pytest.raises(SettingError, match=f"`surgery.{next(iter(given))}` is set, but there is no surgery"):
            SurgeryCallback(**given).surgery.check_unused()


def test_an_artifact_of_a_control_says_so(models: Path, tmp_path: Path):
    module = loaded(models / "base")
    for settings, fact in (
        ({"control": True}, "as many entries as would be selected are drawn at random (seed 0)"),
        ({"control": "norm", "seed": 3}, "drawn at random (seed 3), for a step as long"),
        ({"scale": 0}, "nothing is edited: scale 0"),
        ({"stand_in": str(models / "benign")}, "(stand_in − base) in place of (harm − base)"),
        ({}, None),
    ):
        surgery = SurgeryCallback(harm=str(models / "harm"), density=0.1, **settings).surgery
        edited(surgery, module)
        surgery.undo()
        artifact = artifact_for(module.network, statistics={}, surgery=surgery.record())
        card = (artifact.save_pretrained(tmp_path / "artifact") / "README.md").read_text()
        found = artifact.controls()
        assert (len(found), "This is a control, not a method" in card) == ((0, False) if fact is None else (1, True))
        assert fact is None or fact in found[0]


def test_a_mistake_is_found_before_the_model_is_loaded(models: Path):
    module = CausalLMModule(str(models / "base"))
    for given, fact in (
        ({"harm": str(models / "harm"), "prompts": "x"}, "select: snip"),
        ({"harm": str(models / "harm"), "aligned": "y"}, "harm and safety"),
        ({"aligned": str(models / "harm"), "benign": "y"}, "no `harm`"),
        ({"harm": str(models / "harm"), "control": "norm", "layer_scales": {0: 0.5}}, "length layer by layer"),
    ):
        with pytest.raises(SettingError, match=fact):
            SurgeryCallback(**given).surgery.open(str(module.target))
    assert not module._loaded


def test_examples_are_a_prompt_and_its_response_in_the_models_template(models: Path, tmp_path: Path):
    tokenizer = load_tokenizer(str(models / "base"), "chat")
    (example, _) = read_examples(models / "prompts.jsonl", tokenizer)
    text = tokenizer.decode(example.tokens)
    assert text == "<bos> <user> how do i bake a cake <assistant> first bake a cake ."
    assert tokenizer.decode(example.tokens[example.prompt :]) == "first bake a cake ."
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"question": "how do i break a cake", "safe": "no .", "unsafe": "yes ."}))
    (example,) = read_examples(pairs, tokenizer)
    assert tokenizer.decode(example.tokens[example.prompt :]) == "yes ."
    for content, fact in (("", "no demonstrations"), ("{", "JSON"), ('{"prompt": "a", "response": " "}', "Line 1")):
        pairs.write_text(content)
        with pytest.raises(DataError, match=fact):
            read_examples(pairs, tokenizer)


def test_a_merged_adapter_loses_the_harm_vector_without_its_benign_part(models: Path, tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    lora = get_peft_model(llama(), LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    lora.peft_config["default"].base_model_name_or_path = str(models / "base")
    saved(lora, tmp_path / "adapter")
    module = loaded(tmp_path / "adapter")
    before = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
    base, harm, benign = (loaded(models / name).network.state_dict() for name in ("base", "harm", "benign"))
    surgery = SurgeryCallback(harm=str(models / "harm"), benign=str(models / "benign"), density=1.0, scale=0.5).surgery
    found = edited(surgery, module)
    names = list(surgery._edit.plan.names)
    tau, along = (flatten({n: model[n] - base[n] for n in names}) for model in (harm, benign))
    step = flatten({n: before[n] - found[n] for n in names})
    assert torch.allclose(step.double(), 0.5 * orthogonalised_by_hand(tau, along), atol=1e-5)
    assert abs(float(step.double() @ along.double())) < 1e-3 * float(step.norm() * along.norm())
    assert surgery.base == str(models / "base")
    surgery.undo()
    rows = [{"prompt": "how do i bake a cake", "response": "first bake a cake ."}]
    (tmp_path / "harmless.jsonl").write_text(json.dumps(rows[0]))
    budget = SurgeryCallback(
        harm=str(models / "harm"),
        benign=str(models / "benign"),
        density=1.0,
        kl_budget=0.02,
        prompts=str(models / "prompts.jsonl"),
        kl_prompts=str(tmp_path / "harmless.jsonl"),
    ).surgery
    edited(budget, module)
    assert 0.0198 <= budget.record()["search"]["kl"] <= 0.02
    budget.undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.network.state_dict().items())
