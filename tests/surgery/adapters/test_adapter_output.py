"""The edit as an adapter is the edit as a checkpoint: loaded by peft, merged by peft, read by us."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from support.families import FAMILIES as BUILT
from support.models import WORDS, gpt2, llama, perturbed
from transformers import (
    AutoConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sa_lightning.errors import SaError
from sa_lightning.export.skeleton import Skeleton
from sa_lightning.models import load_model
from sa_lightning.models.as_asked import auto_class
from sa_lightning.surgery import (
    EditSettings,
    RankOne,
    Scope,
    Sources,
    open_checkpoint,
    plan_from,
    write_adapter,
    write_edit,
)
from sa_lightning.surgery.adapters import output

IDS = torch.arange(3, 15)[None]
SMALL = {
    "vocab_size": 6 + len(WORDS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "pad_token_id": 0,
}  # fmt: skip


def made(kind, config, **more):
    torch.manual_seed(0)
    return kind(config(**SMALL, **more)).eval().requires_grad_(False)


FAMILIES = {
    "untied": llama,
    "tied": lambda: llama(tied=True),
    "biases": lambda: made(Qwen2ForCausalLM, Qwen2Config),
    "Conv1D": gpt2,
    "norms of 1 + w": lambda: made(Gemma2ForCausalLM, Gemma2Config),
    "positions of its own": BUILT["OPT"],
    "a linear layer of its own": BUILT["Falcon"],
}


def lora(model, base: Path, path: Path, seed: int = 0, **settings) -> Path:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(tie|embedding layers).*")
        wrapped = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
        wrapped.peft_config["default"].base_model_name_or_path = str(base)
        wrapped.save_pretrained(path, save_embedding_layers=False)
    return path


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def plain(path):
    return auto_class(AutoConfig.from_pretrained(path)).from_pretrained(path, dtype="auto")


def loaded(path: Path) -> PeftModel:
    """As a person loads it: the base that it names, and the adapter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(tie|tied).*")
        base = json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"]
        return PeftModel.from_pretrained(plain(base), path).eval()


def both(tmp_path: Path, sources: Sources, rank: int | None = None, **settings) -> tuple[Path, Path, dict]:
    """The edit as a checkpoint, and as an adapter, with what is said of that."""
    target = sources.target or sources.base
    checkpoint = write_edit(plan_from(sources, EditSettings(**settings)), tmp_path / "checkpoint")
    plan = plan_from(sources, EditSettings(**settings))
    skeleton = Skeleton(target)
    places = skeleton.places(plan.target.names)
    said = write_adapter(plan, tmp_path / "adapter", places, rank=rank, check=skeleton.check)
    assert json.loads((tmp_path / "adapter" / "surgery.json").read_text())["adapter"] == said
    return checkpoint, tmp_path / "adapter", said


def test_a_lora_edited_along_a_lora_is_a_lora_of_the_same_base(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    harm = lora(llama(), tmp_path / "base", tmp_path / "harm", r=4, target_modules=["q_proj", "down_proj"])
    target = lora(llama(), tmp_path / "base", tmp_path / "target", 1, r=3, target_modules=["q_proj", "v_proj"])
    (target / "tokenizer.json").write_text("{}")
    checkpoint, adapter, said = both(
        tmp_path, Sources(str(tmp_path / "base"), str(harm), target=str(target)), density=1.0, scale=0.5
    )
    assert said["exact"]
    assert said["relative_error"] < 1e-6
    assert said["matrices_by_rank"] == {"3": 3, "4": 3, "7": 3}
    assert said["rows_read_again"] > 0
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((tmp_path / "base").resolve())
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert (adapter / "tokenizer.json").exists()
    assert not (adapter / "config.json").exists()
    model = loaded(adapter)
    assert float((logits(model) - logits(plain(checkpoint))).abs().max()) < 1e-5
    assert float((logits(plain(checkpoint)) - logits(plain(tmp_path / "base"))).abs().max()) > 0.1
    assert float((logits(model.merge_and_unload()) - logits(plain(checkpoint))).abs().max()) < 1e-5
    assert float((logits(load_model(str(adapter))) - logits(plain(checkpoint))).abs().max()) < 1e-5


def test_a_sum_of_adapters_and_ends_that_one_of_them_unties_become_one_adapter(tmp_path):
    llama(tied=True).save_pretrained(tmp_path / "base")
    base = tmp_path / "base"
    one = lora(llama(tied=True), base, tmp_path / "one", r=2, target_modules=["q_proj"], modules_to_save=["norm"])
    other = lora(llama(tied=True), base, tmp_path / "other", 1, r=3, target_modules=["q_proj", "lm_head"])
    harm = lora(llama(tied=True), base, tmp_path / "harm", 2, r=4, target_modules=["down_proj"])
    scope = Scope(embeddings=False, lm_head=False)
    sources = Sources(str(base), str(harm), target=f"{base} + {one}*0.5 + {other}")
    checkpoint, adapter, said = both(tmp_path, sources, density=1.0, scale=0.5, scope=scope)
    assert said["exact"]
    assert said["matrices_by_rank"] == {"3": 1, "4": 3, "5": 3}
    edited = logits(load_model(str(checkpoint)))
    assert float((logits(loaded(adapter)) - edited).abs().max()) < 1e-5
    assert float((logits(load_model(str(adapter))) - edited).abs().max()) < 1e-5


def test_a_target_of_another_kind_of_adapter_is_held_to_its_rows(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    target = lora(llama(), tmp_path / "base", tmp_path / "dora", r=2, target_modules=["o_proj"], use_dora=True)
    harm = lora(llama(), tmp_path / "base", tmp_path / "harm", 2, r=4, target_modules=["down_proj"])
    sources = Sources(str(tmp_path / "base"), str(harm), target=str(target))
    assert "not known to be of low rank" in refused(sources, tmp_path, density=1.0)
    checkpoint, adapter, said = both(tmp_path, sources, rank=32, density=1.0, scale=0.5)
    assert said["exact"]
    assert float((logits(loaded(adapter)) - logits(plain(checkpoint))).abs().max()) < 1e-4


@pytest.mark.parametrize("how", ["a function", "a mapping"])
def test_a_direction_is_of_rank_one_however_the_delta_says_so(how, tmp_path, monkeypatch):
    own = RankOne.factors
    if how == "a mapping":
        said = property(lambda self: {name: (*own(self, name), "more") for name in self.names})
        monkeypatch.setattr(RankOne, "factors", said)
    llama().save_pretrained(tmp_path / "base")
    save_file({"r": torch.randn(32)}, tmp_path / "r.safetensors")
    sources = Sources(str(tmp_path / "base"), direction=str(tmp_path / "r.safetensors"))
    checkpoint, adapter, said = both(tmp_path, sources)
    assert said["matrices_by_rank"] == {"1": 7}
    assert said["exact"]
    assert float((logits(loaded(adapter)) - logits(plain(checkpoint))).abs().max()) < 1e-5


def test_factors_that_are_not_those_of_the_edit_and_files_that_read_otherwise_are_noticed(tmp_path, monkeypatch):
    llama().save_pretrained(tmp_path / "base")
    save_file({"r": torch.randn(32)}, tmp_path / "r.safetensors")
    sources = Sources(str(tmp_path / "base"), direction=str(tmp_path / "r.safetensors"))
    settings = output.adapter_settings
    with monkeypatch.context() as patch:
        patch.setattr(output, "adapter_settings", lambda *given: {**settings(*given), "lora_alpha": 2})
        assert "read again" in refused(sources, tmp_path)
    own = RankOne.factors
    monkeypatch.setattr(RankOne, "factors", lambda self, name: (1.01 * own(self, name)[0], own(self, name)[1]))
    with pytest.raises(RuntimeError, match="otherwise than its factors say"):
        both(tmp_path, sources)


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_an_edit_changes_peft_says_it_too(family, tmp_path):
    model = FAMILIES[family]
    model().save_pretrained(tmp_path / "base")
    perturbed(model(), 1).save_pretrained(tmp_path / "harm")
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    checkpoint, adapter, said = both(tmp_path, sources, rank=64, density=0.5, scale=2.0)
    assert said["exact"]
    edited = logits(plain(checkpoint))
    assert float((logits(plain(tmp_path / "base")) - edited).abs().max()) > 0.1
    model = loaded(adapter)
    assert float((logits(model) - edited).abs().max()) < 1e-4
    assert float((logits(load_model(str(adapter))) - edited).abs().max()) < 1e-4
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tied.*")
        assert float((logits(model.merge_and_unload()) - edited).abs().max()) < 1e-4


@pytest.mark.parametrize("family", ["Gemma3 with vision", "Llava"])
def test_the_text_part_of_a_multimodal_model_is_named_as_it_is_in_memory(family, tmp_path):
    model = BUILT[family]()
    model.save_pretrained(tmp_path / "base")
    perturbed(model, 1).save_pretrained(tmp_path / "harm")
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    scope = Scope(include=("language_model*",))
    checkpoint, adapter, _ = both(tmp_path, sources, rank=64, density=1.0, scope=scope)
    assert "model.language_model.layers.0.self_attn.q_proj" in (adapter / "adapter_config.json").read_text()
    edited = logits(plain(checkpoint))
    assert float((logits(loaded(adapter)) - edited).abs().max()) < 1e-4
    assert float((logits(plain(tmp_path / "base")) - edited).abs().max()) > 0.1


def test_what_peft_would_leave_out_is_refused(tmp_path):
    BUILT["DeepSeek-V2"]().save_pretrained(tmp_path / "base")
    perturbed(BUILT["DeepSeek-V2"](), 1).save_pretrained(tmp_path / "harm")
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    with pytest.raises(SaError, match="peft finds no place for 26 tensors"):
        both(tmp_path, sources, rank=64, scope=Scope(exclude=("*.experts.*",)))
    assert not (tmp_path / "adapter").exists()


def test_what_a_rank_loses_is_measured(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    perturbed(llama(), 1).save_pretrained(tmp_path / "harm")
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    scope = Scope(embeddings=False, norms=False, lm_head=False)
    checkpoint, adapter, said = both(tmp_path, sources, rank=3, density=0.5, scope=scope)
    merged, edited, base = (one.state_dict() for one in (load_model(str(adapter)), plain(checkpoint), llama()))
    lost = {name: float((merged[name] - edited[name]).norm()) for name in base}
    change = {name: float((edited[name] - base[name]).norm()) for name in base}
    assert not said["exact"]
    assert said["relative_error"] == pytest.approx(math.hypot(*lost.values()) / math.hypot(*change.values()), rel=1e-4)
    assert said["relative_error_of_step"] == pytest.approx(said["relative_error"], rel=1e-4)  # the target is the base
    worst = max((name for name in base if change[name]), key=lambda name: lost[name] / change[name])
    assert said["worst"]["name"] == worst
    assert said["matrices_by_rank"] == {"3": 21}
    assert said["parameters"] == sum(
        value.numel() for value in load_file(adapter / "adapter_model.safetensors").values()
    )


def test_half_precision_does_not_round_the_change(tmp_path):
    llama().bfloat16().save_pretrained(tmp_path / "base")
    harm = lora(llama().bfloat16(), tmp_path / "base", tmp_path / "harm", r=2, target_modules=["up_proj"])
    target = lora(llama().bfloat16(), tmp_path / "base", tmp_path / "target", 1, r=2, target_modules=["up_proj"])
    sources = Sources(str(tmp_path / "base"), str(harm), target=str(target))
    _, adapter, said = both(tmp_path, sources, density=1.0, scale=2.0)
    assert said["matrices_by_rank"] == {"4": 3}
    made, own, taken = (load_file(path / "adapter_model.safetensors") for path in (adapter, target, harm))
    key = "base_model.model.model.layers.1.mlp.up_proj.lora_"
    product = [(file[f"{key}B.weight"] @ file[f"{key}A.weight"]).double() for file in (made, own, taken)]
    expected = 4 * product[1] - 2 * 4 * product[2]  # alpha / r is 8 / 2
    assert float((product[0] - expected).norm() / expected.norm()) < 1e-6


def refused(sources: Sources, tmp_path: Path, rank: int | None = None, **settings) -> str:
    plan = plan_from(sources, EditSettings(**settings))
    with pytest.raises(SaError) as error:
        write_adapter(plan, tmp_path / "adapter", Skeleton(sources.base).places(plan.target.names), rank=rank)
    assert not (tmp_path / "adapter").exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    return str(error.value)


def test_an_edit_of_no_known_rank_is_refused_with_what_each_rank_would_lose(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    perturbed(llama(), 1).save_pretrained(tmp_path / "harm")
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    said = refused(sources, tmp_path)
    assert "not known to be of low rank" in said
    assert "--rank 16: an error of about" in said
    assert "rank of 0" in refused(sources, tmp_path, rank=0) or "rank 0 is zero" in refused(sources, tmp_path, rank=0)
    assert "leaves its base in the base's own type" in refused(sources, tmp_path, rank=8, dtype="bfloat16")
    only_norms = Scope(include=("*norm*",))
    assert "changes no matrix" in refused(sources, tmp_path, rank=8, scope=only_norms)


def test_an_edit_that_takes_an_adapter_out_of_its_base_is_refused_as_such(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    harm = lora(llama(), tmp_path / "base", tmp_path / "harm", r=2, target_modules=["down_proj"])
    sources = Sources(str(tmp_path / "base"), str(harm), target=str(harm))
    assert f"takes {harm} back to {tmp_path / 'base'}" in refused(sources, tmp_path, density=1.0, scale=1.0)


def test_experts_in_one_tensor_are_counted_and_refused_with_the_way_out(tmp_path):
    model = made(MixtralForCausalLM, MixtralConfig, num_local_experts=4, num_experts_per_tok=2)
    model.save_pretrained(tmp_path / "base")
    perturbed(model, 1).save_pretrained(tmp_path / "harm")
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    said = refused(sources, tmp_path, rank=64, density=1.0)
    count = len([name for name in open_checkpoint(tmp_path / "base").names if ".experts." in name])
    assert f"changes {count} tensors" in said
    assert """--scope.exclude '["*.experts.*"]'""" in said
    scope = Scope(exclude=("*.experts.*", "*.gate.weight"))
    checkpoint, adapter, _ = both(tmp_path, sources, rank=64, density=1.0, scope=scope)
    assert float((logits(loaded(adapter)) - logits(plain(checkpoint))).abs().max()) < 1e-4
