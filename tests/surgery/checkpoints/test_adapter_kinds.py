"""Every kind of adapter reads, some rows at a time, as what peft merges; sums of them as their definition."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support.adapters import ENDS, KINDS, with_biases, write_adapter
from support.models import gpt2, llama
from support.small_checkpoints import read
from transformers import AutoModelForCausalLM

from sa_lightning.models import load_model
from sa_lightning.surgery import EditSettings, Scope, Sources, open_checkpoint, plan_from, write_edit

pytestmark = pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:.*no longer tied")


@pytest.fixture
def base(tmp_path):
    with_biases().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def close(found, model, names=None):
    wanted = model.state_dict()
    for name in names or found:
        assert torch.allclose(found[name], wanted[name], atol=1e-6, rtol=0), name


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_reads_as_what_peft_merges(base, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("sa_lightning.surgery.checkpoints.slices.ENTRIES", 100)
    merged = write_adapter(base, tmp_path / "adapter", **KINDS[kind])
    found, plain = read(tmp_path / "adapter"), read(base)
    close(found, merged)
    changed = {name.split(".")[-2] for name in found if not torch.equal(found[name], plain[name])}
    assert changed >= {"q_proj", "down_proj", *KINDS[kind].get("modules_to_save", ())}
    assert "bias" not in kind or any(
        name.endswith("bias") and not torch.equal(found[name], plain[name]) for name in found
    )


@pytest.mark.parametrize("kind", ENDS)
def test_one_end_of_a_tied_model_reads_as_two_tensors(tmp_path, kind):
    llama(tied=True).save_pretrained(tmp_path / "base")
    merged = write_adapter(tmp_path / "base", tmp_path / "adapter", merged=False, **ENDS[kind])
    loaded = load_model(str(tmp_path / "adapter"))
    found = read(tmp_path / "adapter")
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= set(found)
    close(found, loaded)
    with torch.no_grad():
        ids = torch.arange(6, 16)[None]
        assert torch.allclose(loaded(ids).logits, merged(ids).logits, atol=1e-4)
        assert (loaded(ids).logits - llama(tied=True)(ids).logits).abs().max() > 0.1


def test_weights_stored_the_other_way_round_are_rescaled_by_column(tmp_path, monkeypatch):
    monkeypatch.setattr("sa_lightning.surgery.checkpoints.slices.ENTRIES", 100)
    gpt2().save_pretrained(tmp_path / "base")
    merged = write_adapter(
        tmp_path / "base", tmp_path / "adapter", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, use_dora=True
    ).state_dict()
    for name, tensor in read(tmp_path / "adapter").items():
        assert torch.allclose(tensor, merged[name if name in merged else f"transformer.{name}"], atol=1e-6, rtol=0)


def test_a_sum_is_the_base_and_the_weighted_change_of_each_adapter_in_memory_and_by_rows(base, tmp_path):
    plain, total = read(base), read(base)
    for place, kind, weight in (("a", "DoRA", 0.7), ("b", "saved modules", 1), ("c", "biases", -0.5)):
        merged = write_adapter(base, tmp_path / place, seed=ord(place), **KINDS[kind]).state_dict()
        total = {name: total[name] + weight * (merged[name] - plain[name]) for name in total}
    source = f"{tmp_path}/a*0.7 + {tmp_path}/b+{tmp_path}/c * -0.5"
    found, loaded = read(source), load_model(source)
    close(total, loaded)
    assert all(torch.equal(loaded.state_dict()[name], found[name]) for name in found)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_of_one_add_up_as_pefts_cat_and_minus_one_takes_an_adapter_out(base, tmp_path):
    from peft import PeftModel

    write_adapter(base, tmp_path / "a")
    write_adapter(base, tmp_path / "b", seed=4, r=3)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a", adapter_name="a")
    model.load_adapter(tmp_path / "b", "b")
    model.add_weighted_adapter(["a", "b"], [1.0, 0.3], "both", combination_type="cat")
    model.set_adapter("both")
    close(read(f"{base} + {tmp_path}/a + {tmp_path}/b*0.3"), model.merge_and_unload())
    merged = load_model(str(tmp_path / "a"))
    merged.save_pretrained(tmp_path / "merged")
    close(read(f"{tmp_path}/merged + {tmp_path}/a*-1"), load_model(str(base)))
    assert all(
        torch.equal(t, merged.state_dict()[name])
        for name, t in load_model(f"{base} + {tmp_path}/a*1").state_dict().items()
    )


def test_an_edit_over_an_untied_model_is_a_checkpoint_with_both_ends(tmp_path):
    llama(tied=True).save_pretrained(tmp_path / "base")
    llama(1, tied=True).save_pretrained(tmp_path / "harm")
    write_adapter(tmp_path / "base", tmp_path / "adapter", **ENDS["both ends"])
    sources = Sources(base=str(tmp_path / "base"), harm=(str(tmp_path / "harm"),), target=str(tmp_path / "adapter"))
    out = write_edit(plan_from(sources, EditSettings(scope=Scope(exclude=("*embed*", "*lm_head*")))), tmp_path / "out")
    stored = load_file(out / "model.safetensors")
    assert not torch.equal(stored["lm_head.weight"], stored["model.embed_tokens.weight"])
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    loaded = load_model(str(out))
    adapted = open_checkpoint(tmp_path / "adapter")
    for end, name in ((loaded.lm_head, "lm_head.weight"), (loaded.model.embed_tokens, "model.embed_tokens.weight")):
        assert torch.equal(end.weight, adapted.read(name))
