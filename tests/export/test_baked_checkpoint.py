"""A baked checkpoint is the steered model, in every family that has a place for a step; the others are refused."""

import pytest
import torch
from support.families import FAMILIES, build
from support.models import artifact_for, llama, rule_for, saved, word_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from sa_lightning import steer
from sa_lightning.errors import ModelError
from sa_lightning.export import Settings, export
from sa_lightning.export.checkpoint import baked
from sa_lightning.export.formats import spoken
from sa_lightning.fitting import Surgery
from sa_lightning.surgery import EditSettings, Sources

IDS = torch.tensor([[1, 5, 9, 11, 20, 33]])
BUILT = {
    **{name: FAMILIES[name] for name in FAMILIES if name != "Llama with LoRA"},
    "Mistral without a window": lambda: build("Mistral", "ForCausalLM", {"sliding_window": None}),
    "Granite, residual halved": lambda: build("Granite", "ForCausalLM", {"residual_multiplier": 0.5}),
    "Llama, tied": lambda: build("Llama", "ForCausalLM", {"tie_word_embeddings": True}),
}
#: Families in which a step behind a block can be baked; all others are refused.
ROOM = {
    *("Llama", "Qwen2", "GPT-2", "GPT-NeoX", "GPT-J", "OPT", "Phi", "BLOOM", "Granite", "SmolLM3", "DeepSeek-V2"),
    *("Llava", "Mistral without a window", "Granite, residual halved", "Llama, tied"),
}


def differences(model, site):
    """Largest difference of a logit: of the baked model from the steered one, and of that from the plain one."""
    artifact = artifact_for(model, strength=1.5, intervention="add_absolute", site=site)
    plain = model(input_ids=IDS).logits
    with steer(model, artifact):
        steered = model(input_ids=IDS).logits
    found = baked(model, spoken(artifact, "original", "checkpoint").acts)(input_ids=IDS).logits
    assert torch.equal(model(input_ids=IDS).logits, plain)
    return float((found - steered).abs().max()), float((plain - steered).abs().max())


@pytest.mark.parametrize("name", BUILT)
def test_a_step_behind_a_block_is_baked_exactly_or_refused_by_name(name):
    model = BUILT[name]()
    if name in ROOM:
        off, effect = differences(model, "residual")
        assert off < 1e-5
        assert effect > 0.1
    else:
        with pytest.raises(ModelError, match=r"has no bias at|normalises what it adds|matrices that write") as error:
            differences(model, "residual")
        assert "`--to` lm_eval, repeng, steering-vectors" in str(error.value)  # block 0 is among them


@pytest.mark.parametrize("site", ["mlp", "attention"])
@pytest.mark.parametrize("name", ["Llama", "Qwen2", "GPT-NeoX", "Granite, residual halved"])
def test_a_step_within_a_block_too(name, site):
    off, effect = differences(BUILT[name](), site)
    assert off < 1e-5 < effect


def test_a_twin_says_what_it_is(tmp_path):
    model = BUILT["Qwen2"]()
    found = baked(model, spoken(artifact_for(model, 1.5, intervention="add_absolute"), "original", "checkpoint").acts)
    found.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.architectures) == ("llama", ["LlamaForCausalLM"])
    assert config.mlp_bias
    assert config.attention_bias


def test_a_checkpoint_has_what_a_checkpoint_needs(tmp_path):
    model = llama(tied=True)
    artifact = artifact_for(
        model,
        rules={"spare": rule_for(model, seed=9, intervention="add_absolute", strength={2: 1.0}, site="attention")},
        intervention="add_absolute",
        strength={0: -3.0, 1: 2.5},
        site="attention",
    )
    source = saved(model, tmp_path / "model")
    record = export(artifact, tmp_path / "baked", Settings("checkpoint", model=str(source)))
    assert record["check"]["difference"] < 1e-5 < record["check"]["effect"]
    names = {path.name for path in (tmp_path / "baked").iterdir()}
    assert names >= {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "export.json"}
    assert (tmp_path / "baked" / "chat_template.jinja").read_text() == (source / "chat_template.jinja").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_biases_in_half_precision_are_rounded_and_it_is_told(tmp_path):
    model = llama().to(torch.bfloat16)
    artifact = artifact_for(model, intervention="add_absolute", strength=3.0)
    source = saved(model, tmp_path / "model")
    record = export(artifact, tmp_path / "baked", Settings("checkpoint", model=str(source)))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "baked").dtype == torch.bfloat16
    assert record["check"]["dtype"] == "float32"
    assert 0 < record["check"]["difference"] < 0.02 * record["check"]["effect"]


def test_the_surgery_of_the_fit_is_redone_and_baked_with_the_step(checkpoints, tmp_path):
    model = llama()
    surgery = Surgery(Sources(harm=str(checkpoints / "harm")), EditSettings(density=0.2))
    surgery.open(str(checkpoints / "base"))
    surgery.apply(model, word_tokenizer())
    artifact = artifact_for(model, intervention="add_absolute", strength=2.0, surgery=surgery.record())
    artifact.rules["pairs"].directions["edited"] = artifact.rules["pairs"].directions.pop("original")
    artifact.fingerprints["edited"] = artifact.fingerprints.pop("original")
    record = export(artifact, tmp_path / "baked", Settings("checkpoint", "edited", str(checkpoints / "base")))
    assert record["check"]["difference"] < 1e-5 < record["check"]["effect"]
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "baked").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
    assert found["model.layers.1.mlp.down_proj.bias"].norm() == pytest.approx(2.0, rel=1e-5)
