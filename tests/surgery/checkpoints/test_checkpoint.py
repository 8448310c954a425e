import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from support.models import gpt2, llama
from support.small_checkpoints import Write, says, small_tensors

from sa_lightning.errors import CheckpointError, CheckpointMismatchError, NothingToDoError
from sa_lightning.surgery import ModelWeights, Scope, TaskVector, open_checkpoint


def test_sharded_and_single_checkpoints_read_alike_and_share_a_fingerprint(write: Write):
    tensors = small_tensors(0, torch.bfloat16)
    one, many = open_checkpoint(write("one", tensors)), open_checkpoint(write("many", tensors, shards=3))
    assert sorted(one.names) == sorted(many.names) == sorted(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(many.read(name), tensor)
        assert (many.shape(name), many.dtype(name)) == (tuple(tensor.shape), torch.bfloat16)
    assert one.fingerprint() == many.fingerprint()
    tensors["model.norm.weight"][0] += 1
    assert open_checkpoint(write("other", tensors)).fingerprint() != one.fingerprint()


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_has_the_names_and_fingerprint_of_its_checkpoint(tmp_path: Path, tied: bool):
    model = llama(tied=tied)
    model.save_pretrained(tmp_path)
    checkpoint, weights = open_checkpoint(tmp_path), ModelWeights(model)
    assert sorted(checkpoint.names) == sorted(weights.names)
    assert checkpoint.fingerprint() == weights.fingerprint()
    assert ("lm_head.weight" in weights.names) is not tied
    assert weights.parameter("model.norm.weight") is model.model.norm.weight


def test_a_tied_tensor_stored_twice_has_one_name_and_an_alias(write: Write):
    tensors = small_tensors(0)
    twice = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    tied = open_checkpoint(write("tied", twice, tie_word_embeddings=True))
    once = open_checkpoint(write("once", tensors, tie_word_embeddings=True))
    nested = open_checkpoint(write("nested", twice, text_config={"tie_word_embeddings": True}))
    assert tied.aliases == nested.aliases == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "lm_head.weight" not in tied.names
    assert tied.fingerprint() == once.fingerprint()
    TaskVector(tied, once)
    TaskVector(once, tied)
    untied = open_checkpoint(write("untied", twice))
    assert untied.aliases == {}
    with pytest.raises(CheckpointMismatchError) as error:
        TaskVector(tied, untied)
    says(error, "`lm_head.weight`", "ties it to `model.embed_tokens.weight`", "untied", "scope.exclude")


def lora(tmp_path: Path, base: Path, **settings: object) -> PeftModel:
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], **settings)
    torch.manual_seed(4)
    model = get_peft_model(llama(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(tmp_path / "adapter")
    return model


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers.1.*q_proj": 7}}]
)
def test_an_adapter_reads_as_what_peft_merges(tmp_path: Path, settings: dict[str, object]):
    llama().save_pretrained(tmp_path / "base")
    merged = lora(tmp_path, tmp_path / "base", **settings).merge_and_unload().state_dict()
    adapted = open_checkpoint(tmp_path / "adapter")
    base = open_checkpoint(tmp_path / "base")
    assert adapted.names == base.names
    changed = 0
    for name in adapted.names:
        assert torch.allclose(adapted.read(name), merged[name], atol=1e-6, rtol=0)
        changed += not torch.equal(adapted.read(name), base.read(name))
    assert changed == 6
    assert adapted.fingerprint() != base.fingerprint()


@pytest.mark.parametrize("entries", [50, 1 << 18])
def test_an_adapter_over_weights_stored_the_other_way_round_reads_as_what_peft_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int
):
    monkeypatch.setattr("sa_lightning.surgery.checkpoints.slices.ENTRIES", entries)
    gpt2().save_pretrained(tmp_path / "base")
    modules = ["c_attn", "c_proj"]
    config = LoraConfig(r=3, lora_alpha=5, target_modules=modules, fan_in_fan_out=True, init_lora_weights=False)
    torch.manual_seed(4)
    model = get_peft_model(gpt2(), config)
    model.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter")
    merged = model.merge_and_unload().state_dict()
    adapted, base = open_checkpoint(tmp_path / "adapter"), open_checkpoint(tmp_path / "base")
    for name in adapted.names:
        whole = name if name in merged else f"transformer.{name}"
        assert torch.allclose(adapted.read(name), merged[whole], atol=1e-5, rtol=0)
    changed = [name for name in adapted.names if not torch.equal(adapted.read(name), base.read(name))]
    assert len(changed) == 2 * 3


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"target_parameters": ["mlp.experts.up"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"peft_type": "IA3"}, "peft_type: IA3"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
    ],
)
def test_adapters_that_cannot_be_merged_exactly_are_refused_by_name(
    tmp_path: Path, checkpoints: Path, change: dict[str, object], fact: str
):
    lora(tmp_path, checkpoints / "base")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(tmp_path / "adapter")
    says(error, fact, "merge_and_unload")


def test_an_adapter_over_another_base_is_refused(tmp_path: Path, checkpoints: Path):
    lora(tmp_path, checkpoints / "base")
    with pytest.raises(CheckpointMismatchError) as error:
        open_checkpoint(tmp_path / "adapter", adapter_base=checkpoints / "other")
    says(error, "down_proj", "(32, 64)", "(16, 32)", "trained on another base")


def test_a_missing_path_and_an_unknown_repository_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(tmp_path / "nowhere")
    says(error, "nowhere does not exist", "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        open_checkpoint("no-such-organisation/no-such-model")
    says(error, "no-such-model", "Hub")


def test_pickled_weights_are_never_read(tmp_path: Path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(tmp_path)
    says(error, "pytorch_model.bin", "pickle", "save_pretrained")


def test_a_directory_without_weights_and_a_quantised_one_are_refused(tmp_path: Path, write: Write):
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(tmp_path)
    says(error, "has no weights", "`model.safetensors`")
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(write("q", small_tensors(0), quantization_config={"quant_method": "gptq"}))
    says(error, "quantised (gptq)")


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_file_is_refused(write: Write, keep: int):
    file = write("cut", small_tensors(0)) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(file.parent)
    says(error, "is not a whole safetensors file", "cut off")


def test_a_wrong_index_and_a_missing_shard_are_refused(write: Write):
    path = write("many", small_tensors(0), shards=2)
    index = path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = content["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    says(error, "`ghost`", "do not belong together")
    content["weight_map"]["ghost"] = "model-00009.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    says(error, "model-00009.safetensors", "1 of 3")


def test_shape_mismatch_names_parameter_both_shapes_and_both_checkpoints(write: Write):
    base, grown = small_tensors(0), small_tensors(0)
    grown["model.embed_tokens.weight"] = torch.zeros(12, 6)
    one, two = open_checkpoint(write("base", base)), open_checkpoint(write("grown", grown))
    with pytest.raises(CheckpointMismatchError) as error:
        TaskVector(one, two)
    facts = "embed_tokens.weight", f"(12, 6) in {two.source}", f"(11, 6) in {one.source}"
    says(error, *facts, "scope.exclude: ['*embed_tokens*', '*lm_head*']")
    TaskVector(one, two, Scope(exclude=("*embed_tokens*", "*lm_head*")))


@pytest.mark.parametrize("swap", [False, True])
def test_a_missing_or_extra_parameter_is_refused_unless_out_of_scope(write: Write, swap: bool):
    more = {**small_tensors(0), "model.extra.weight": torch.ones(2)}
    pair = [open_checkpoint(write("base", small_tensors(0))), open_checkpoint(write("more", more))]
    base, harm = reversed(pair) if swap else pair
    with pytest.raises(CheckpointMismatchError) as error:
        TaskVector(base, harm)
    says(error, "`model.extra.weight`", pair[0].source, pair[1].source, "scope.exclude")
    if swap:
        TaskVector(base, harm, Scope(exclude=("*.extra.*",)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_tensor_and_checkpoint(write: Write, value: float):
    broken = small_tensors(1)
    broken["model.norm.weight"][2] = value
    base, harm = open_checkpoint(write("base", small_tensors(0))), open_checkpoint(write("broken", broken))
    with pytest.raises(CheckpointError) as error:
        TaskVector(base, harm).delta("model.norm.weight")
    says(error, "`model.norm.weight`", "1 NaN or infinite", harm.source)


def test_scope_takes_patterns_layers_and_floating_point_only(write: Write):
    tensors = {**small_tensors(0), "model.ids": torch.arange(3), "rotary_emb.inv_freq": torch.ones(2)}
    weights = open_checkpoint(write("base", tensors))
    assert sorted(Scope().names(weights)) == sorted(small_tensors(0))
    assert Scope(layers=(1, 1)).names(weights) == ["model.layers.1.mlp.weight"]
    assert Scope(include=("*mlp*",), exclude=("*.1.*",)).names(weights) == ["model.layers.0.mlp.weight"]
    for scope, fact in ((Scope(include=("*attn*",)), "'*attn*'"), (Scope(exclude=("lm_haed*",)), "'lm_haed*'")):
        with pytest.raises(NothingToDoError) as error:
            scope.names(weights)
        says(error, fact, "matches no parameter", "model.layers.0.mlp.weight")
    with pytest.raises(NothingToDoError) as error:
        Scope(layers=(7, 9)).names(weights)
    says(error, "layers 7 to 9", "blocks are 0 to 1")
    with pytest.raises(ValueError, match="write"):
        Scope(layers=(6, 4))
