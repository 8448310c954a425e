import json
from pathlib import Path

import pytest
import torch
from references.surgery import edit_by_hand, flatten, keep_largest
from support.models import gpt2, llama, perturbed
from support.small_checkpoints import Write, read, says, small_tensors
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from sa_lightning.errors import CheckpointError, CheckpointMismatchError, NothingToDoError
from sa_lightning.surgery import (
    EditInMemory,
    EditSettings,
    ModelWeights,
    Scope,
    check_output,
    open_checkpoint,
    plan_edit,
    write_edit,
)


def edit(base: Path, harm: Path, output: Path, target: Path | None = None, **settings: object) -> dict:
    opened = open_checkpoint(target) if target else None
    plan = plan_edit(open_checkpoint(base), open_checkpoint(harm), opened, EditSettings(**settings))
    write_edit(plan, output, command="sa edit")
    return json.loads((output / "surgery.json").read_text())


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def same_bits(a: PreTrainedModel, b: dict[str, Tensor]) -> bool:
    return equal(dict(a.state_dict()), b)


def test_the_edit_subtracts_the_trimmed_harm_vector(write: Write, tmp_path: Path):
    base, harm, target = (small_tensors(seed, move=move) for seed, move in ((0, 0), (1, 0.1), (2, 0.1)))
    paths = [write(name, t) for name, t in (("base", base), ("harm", harm), ("target", target))]
    report = edit(paths[0], paths[1], tmp_path / "out", paths[2], density=0.2, scale=3.0)
    delta = {name: harm[name] - base[name] for name in base}
    mask = keep_largest(flatten(delta), 0.2)
    expected = edit_by_hand(flatten(target), flatten(delta), mask, 3.0)
    assert torch.equal(flatten(read(tmp_path / "out")), expected)
    assert report["n"] == mask.numel() == 168
    assert report["k"] == int(mask.sum()) == 34
    assert report["threshold"] == float(flatten(delta).abs()[mask].min())
    energy = (flatten(delta)[mask] ** 2).sum() / (flatten(delta) ** 2).sum()
    assert report["retained_energy"] == pytest.approx(float(energy), rel=1e-5)
    relative = 3 * (flatten(delta) * mask).norm() / flatten(target).norm()
    assert report["relative_norm"] == pytest.approx(float(relative), rel=1e-5)
    assert list(report["per_layer"]) == ["0", "1", "other"]
    assert sum(layer["k"] for layer in report["per_layer"].values()) == 34
    for role, path in zip(("base", "harm", "target"), paths, strict=True):
        assert report["inputs"][role]["fingerprint"] == open_checkpoint(path).fingerprint()
    assert report["command"] == "sa edit"
    assert "torch" in report["versions"]


@pytest.mark.parametrize("select", ["magnitude", "random"])
def test_sharded_and_single_files_give_the_same_edit(write: Write, tmp_path: Path, select: str):
    base, harm = small_tensors(0, torch.bfloat16), small_tensors(1, torch.bfloat16, move=0.01)
    found = []
    for shards in (1, 3):
        paths = write(f"base{shards}", base, shards), write(f"harm{shards}", harm, 4 - shards)
        found.append(edit(*paths, tmp_path / f"out{shards}", select=select))
    assert equal(read(tmp_path / "out1"), read(tmp_path / "out3"))
    assert found[0]["k"] == found[1]["k"] == 17
    assert found[0]["per_layer"] == found[1]["per_layer"]
    index = json.loads((tmp_path / "out3" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * 168
    assert set(index["weight_map"]) == set(base)


def test_outside_the_scope_every_bit_stays(write: Write, tmp_path: Path):
    base, harm = small_tensors(0), small_tensors(1, move=0.1)
    scope = Scope(layers=(1, 1))
    report = edit(write("base", base), write("harm", harm), tmp_path / "out", scope=scope, density=1)
    edited = read(tmp_path / "out")
    differing = [name for name in base if not torch.equal(base[name], edited[name])]
    assert differing == ["model.layers.1.mlp.weight"]
    assert report["n"] == report["k"] == 48


def test_mixed_types_keep_the_targets_own(write: Write, tmp_path: Path):
    base = small_tensors(0, torch.float16)
    target = small_tensors(0, torch.bfloat16) | {"model.norm.weight": small_tensors(0)["model.norm.weight"]}
    paths = write("base", base), write("harm", small_tensors(1, move=0.1)), tmp_path / "out"
    edit(*paths, write("target", target), density=0.5)
    edited = read(tmp_path / "out")
    assert {name: t.dtype for name, t in edited.items()} == {name: t.dtype for name, t in target.items()}


def test_a_data_type_can_be_asked_for_and_the_configuration_says_so(checkpoints: Path, tmp_path: Path):
    edit(checkpoints / "base", checkpoints / "harm", tmp_path / "out", dtype="bfloat16")
    assert {t.dtype for t in read(tmp_path / "out").values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_tied_embeddings_are_counted_and_edited_once_in_every_stored_form(write: Write, tmp_path: Path):
    name, head = "model.embed_tokens.weight", "lm_head.weight"
    base, harm = small_tensors(0), small_tensors(1, move=0.1)
    once = write("base", base, tie_word_embeddings=True), write("harm", harm, tie_word_embeddings=True)
    twice = write("twice", {**base, head: base[name].clone()}, 2, tie_word_embeddings=True)
    report = edit(*once, tmp_path / "out", twice, density=1.0, scale=1.0)
    assert report["n"] == 168
    out = open_checkpoint(tmp_path / "out")
    assert out.aliases == {head: name}
    assert torch.equal(out.read(head), out.read(name))
    assert torch.allclose(out.read(name), 2 * base[name] - harm[name], atol=1e-6)


def test_tied_embeddings_are_edited_once_in_memory():
    base, harm = llama(tied=True), perturbed(llama(tied=True), 1)
    before = base.model.embed_tokens.weight.clone()
    moved = harm.model.embed_tokens.weight - before
    plan = plan_edit(ModelWeights(base), ModelWeights(harm), None, EditSettings(density=1, scale=1))
    with EditInMemory(plan, ModelWeights(base)):
        assert base.lm_head.weight is base.model.embed_tokens.weight
        assert torch.allclose(base.lm_head.weight, before - moved, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("target", ["checkpoint", "model"])
def test_the_edit_in_memory_equals_the_streamed_one_and_is_undone_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype, target: str
):
    llama(tied=True).to(dtype).save_pretrained(tmp_path / "base")
    perturbed(llama(tied=True), 1, 0.01).to(dtype).save_pretrained(tmp_path / "harm")
    streamed = edit(tmp_path / "base", tmp_path / "harm", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    parameters = [id(parameter) for parameter in model.parameters()]
    base, harm = open_checkpoint(tmp_path / "base"), open_checkpoint(tmp_path / "harm")
    weights = ModelWeights(model)
    plan = plan_edit(base, harm, weights if target == "model" else None, EditSettings())
    surgery = EditInMemory(plan, weights)
    edited = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for _ in range(2):
        assert same_bits(surgery.apply().apply().weights and model, edited)
        assert surgery.active
        surgery.undo().undo()
        assert same_bits(model, before)
        assert not surgery.active
    with surgery:
        assert same_bits(model, edited)
    assert same_bits(model, before)
    assert [id(parameter) for parameter in model.parameters()] == parameters
    report = surgery.report("sa edit")
    for key in streamed.keys() - {"inputs", "settings", "files"}:
        assert report[key] == streamed[key]
    assert report["inputs"]["target"]["fingerprint"] == streamed["inputs"]["target"]["fingerprint"]


@pytest.mark.parametrize("broken_at", [0, 2])
def test_an_interrupt_within_a_swap_leaves_no_half_edited_model(monkeypatch, broken_at: int):
    base, harm = llama(), perturbed(llama(), 1)
    before = {name: t.clone() for name, t in base.state_dict().items()}
    surgery = EditInMemory(plan_edit(ModelWeights(base), ModelWeights(harm), None, EditSettings()), ModelWeights(base))
    surgery.apply()
    edited = {name: t.clone() for name, t in base.state_dict().items()}
    found, calls = ModelWeights.parameter, []

    def interrupted(weights: ModelWeights, name: str) -> Tensor:
        calls.append(name)
        if len(calls) == broken_at + 1:
            raise KeyboardInterrupt
        return found(weights, name)

    for state, act in ((edited, surgery.undo), (before, surgery.apply)):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(ModelWeights, "parameter", interrupted)
            with pytest.raises(KeyboardInterrupt):
                act()
        assert same_bits(base, state)
        act()
        assert same_bits(base, before if act == surgery.undo else edited)
        surgery.undo()


def test_a_model_under_other_names_is_sent_to_the_checkpoint(checkpoints: Path):
    plan = plan_edit(open_checkpoint(checkpoints / "base"), open_checkpoint(checkpoints / "harm"), None, EditSettings())
    for model, fact in ((gpt2(), "does not exist"), (llama(width=16), "has shape")):
        with pytest.raises(CheckpointMismatchError) as error:
            EditInMemory(plan, ModelWeights(model))
        says(error, fact, "`sa edit`")


def test_the_output_loads_with_tokenizer_and_template_and_without_leftovers(checkpoints: Path, tmp_path: Path):
    target = tmp_path / "target"
    perturbed(llama(), 3).save_pretrained(target, max_shard_size="20KB")
    AutoTokenizer.from_pretrained(checkpoints / "base").save_pretrained(target)
    for name in ("optimizer.pt", "pytorch_model.bin", "trainer_state.json", "README.md"):
        (target / name).write_text("{}")
    edit(checkpoints / "base", checkpoints / "harm", tmp_path / "out", target)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert same_bits(model, read(tmp_path / "out"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(target).chat_template
    files, given = ({file.name for file in path.iterdir()} for path in (tmp_path / "out", target))
    left = {"optimizer.pt", "pytorch_model.bin", "trainer_state.json", "README.md"}
    assert files == (given - left) | {"surgery.json", ".sa.jsonl"}


def test_an_adapter_target_becomes_a_whole_checkpoint_with_its_tokenizer(checkpoints: Path, tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(checkpoints / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "chat_template.jinja").write_text("mine")
    edit(checkpoints / "base", checkpoints / "harm", tmp_path / "out", tmp_path / "adapter", density=0.01)
    found, merged = read(tmp_path / "out"), adapted.merge_and_unload().state_dict()
    close = [torch.isclose(found[n], merged[n], atol=1e-6).float().mean().item() for n in merged]
    assert sum(close) / len(close) > 0.95
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "mine"
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_an_edit_that_changes_nothing_is_refused(write: Write, tmp_path: Path):
    base, same = open_checkpoint(write("base", small_tensors(0))), open_checkpoint(write("same", small_tensors(0)))
    harm = open_checkpoint(write("harm", small_tensors(1, move=0.1)))
    for settings, other, fact in (
        (EditSettings(), same, "same equals"),
        (EditSettings(density=1e-6), harm, "Nothing would be selected"),
    ):
        with pytest.raises(NothingToDoError) as error:
            plan_edit(base, other, None, settings)
        says(error, fact)
    plan = plan_edit(base, harm, None, EditSettings(scale=1e-12))
    with pytest.raises(NothingToDoError) as error:
        write_edit(plan, tmp_path / "out")
    says(error, "nothing changed", "rounds to zero")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "harm", "same"]


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(ValueError, match=r"To keep ten percent, write 0\.1"):
        EditSettings(density=10)
    with pytest.raises(ValueError, match="would add the harm") as error:
        EditSettings(scale=-2)
    says(error, "but is -2")


def test_an_existing_output_and_one_inside_an_input_are_refused(checkpoints: Path, tmp_path: Path):
    base, harm = open_checkpoint(checkpoints / "base"), open_checkpoint(checkpoints / "harm")
    plan = plan_edit(base, harm, None, EditSettings())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError) as error:
        write_edit(plan, tmp_path / "out")
    says(error, "exists already", "--overwrite")
    with pytest.raises(CheckpointError) as error:
        write_edit(plan, tmp_path / "out", overwrite=True)
    says(error, "no edit has written it")
    for path in (checkpoints / "base", checkpoints / "harm" / "out", checkpoints):
        with pytest.raises(CheckpointError) as error:
            check_output(path, [base, harm], overwrite=True)
        says(error, "which is read", "never touches its inputs")


def test_overwriting_replaces_an_earlier_edit_whole(checkpoints: Path, tmp_path: Path):
    base, harm = open_checkpoint(checkpoints / "base"), open_checkpoint(checkpoints / "harm")
    for scale in (1.0, 2.0):
        out = write_edit(plan_edit(base, harm, None, EditSettings(scale=scale)), tmp_path / "out", overwrite=True)
        assert json.loads((out / "surgery.json").read_text())["settings"]["scale"] == scale
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_midway_leaves_nothing_behind(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    base, harm = open_checkpoint(checkpoints / "base"), open_checkpoint(checkpoints / "harm")
    plan = plan_edit(base, harm, None, EditSettings())
    original, calls = plan.rows, iter(range(100))

    def fail_at_the_third(*arguments: object) -> object:
        if next(calls) == 2:
            raise error
        return original(*arguments)

    monkeypatch.setattr(plan, "rows", fail_at_the_third)
    with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
        write_edit(plan, tmp_path / "out")
    if isinstance(error, OSError):
        says(caught, "No space left on device", "Nothing was left there")
    assert list(tmp_path.iterdir()) == []


def test_a_result_too_large_for_its_type_is_refused(write: Write, tmp_path: Path):
    base, harm = small_tensors(0, torch.float16), small_tensors(1, torch.float16, move=0.1)
    plan = plan_edit(
        open_checkpoint(write("base", base)), open_checkpoint(write("harm", harm)), None, EditSettings(scale=1e6)
    )
    with pytest.raises(CheckpointError) as error:
        write_edit(plan, tmp_path / "out")
    says(error, "torch.float16", "`scale`")
