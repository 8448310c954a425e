"""Adapters whose tensors do not all find their place are refused; those that are merged say what peft's say."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from support.families import gemma3_with_vision
from support.models import llama, saved
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM

from sa_lightning.errors import ModelError
from sa_lightning.models import load_model, load_tokenizer

IDS = torch.arange(6, 16)[None]
FILE = "adapter_model.safetensors"


def adapter(base: Path, place: Path, **settings) -> Path:
    """A random LoRA over a saved base."""
    torch.manual_seed(3)
    lora = LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(place, save_embedding_layers=False)
    return place


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    for name, model in (("base", llama()), ("tied", llama(tied=True)), ("other", llama(layers=2, width=16))):
        saved(model, root / name)
    adapter(root / "base", root / "lora", target_modules=["q_proj", "down_proj"])
    return root


def settings(**changes):
    def change(place: Path) -> None:
        known = json.loads((place / "adapter_config.json").read_text())
        (place / "adapter_config.json").write_text(json.dumps(known | changes))

    return change


def factors(change):
    def make(place: Path) -> None:
        found = load_file(place / FILE)
        save_file(change(found), place / FILE, metadata={"format": "pt"})

    return make


def first(change):
    return factors(lambda found: {key: change(t) if key == min(found) else t for key, t in found.items()})


def both(place: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(place.parents[1] / "good" / "base" / name, place)


CASES = {
    "a config that is cut": (lambda place: (place / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
    "a config that is a list": (lambda place: (place / "adapter_config.json").write_text("[]"), "no JSON object"),
    "no base": (settings(base_model_name_or_path=None), "names no base: `base_model_name_or_path` is None"),
    "a number as base": (settings(base_model_name_or_path=7), "names no base: `base_model_name_or_path` is 7"),
    "a base that is gone": (settings(base_model_name_or_path="./nowhere"), "No model could be found at ./nowhere"),
    "an unknown kind": (settings(peft_type="QUANTUM"), "cannot be merged into .*\n.*QUANTUM"),
    "a kind without weights to merge": (settings(peft_type="IA3"), "find no module|cannot be merged"),
    "no weights": (lambda place: (place / FILE).unlink(), f"has no `{FILE}`"),
    "weights that are cut": (lambda place: os.truncate(place / FILE, 900), "not a whole safetensors file"),
    "no tensor": (factors(lambda found: {}), "holds no tensor"),
    "keys that find nothing": (
        factors(lambda found: {key.replace("layers", "blocks"): t for key, t in found.items()}),
        "12 tensors of the adapter .* find no module in .*base.*\n",
    ),
    "a key too many": (factors(lambda found: {**found, "x": torch.ones(3)}), "1 tensors .* find no module .* `x`"),
    "a factor missing": (factors(lambda found: {k: t for k, t in found.items() if k != min(found)}), "lacks 1 tensors"),
    "a factor of another rank": (first(lambda t: t[:1].clone()), "size mismatch"),
    "a factor of no dimension": (first(lambda t: torch.tensor(1.0)), "size mismatch"),
    "a factor of whole numbers": (first(lambda t: t.int()), "as torch.int32"),
    "NaN as a scale": (settings(lora_alpha=float("nan")), "are not finite"),
    "text as a scale": (settings(lora_alpha="eight"), "cannot be merged into"),
    "a pattern that never ends": (
        settings(alpha_pattern={"(([a-z_.0-9])+)+!": 4}),
        "a pattern that takes more than 0.5 s to match",
    ),
    "targets that never end": (
        settings(target_modules="(([a-z_.0-9])+)+!"),
        "a pattern that takes more than 0.5 s to match",
    ),
    "a pattern that is none": (settings(rank_pattern={"((": 4}), "a pattern that Python cannot match"),
    "a module to import": (settings(megatron_config={"a": 1}, megatron_core="this"), "has `megatron_config`"),
    "layers replicated": (settings(layer_replication=[[0, 2], [1, 3]]), "has `layer_replication`"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_adapter_is_refused_in_three_lines(good, tmp_path, monkeypatch, name):
    if "never" in name:
        monkeypatch.setattr("sa_lightning.foreign.patterns.SECONDS", 0.5)
    change, match = CASES[name]
    place = shutil.copytree(good / "lora", tmp_path / "lora")
    change(place)
    with pytest.raises(ModelError, match=match) as error:
        load_model(str(place))
    assert str(error.value).count("\n") == 2, str(error.value)


def test_another_base_an_adapter_as_base_and_two_models_in_one_directory_are_refused(good, tmp_path):
    place = shutil.copytree(good / "lora", tmp_path / "lora")
    settings(base_model_name_or_path=str(good / "other"))(place)
    with pytest.raises(ModelError, match=r"cannot be merged into .*other.*\n.*size mismatch"):
        load_model(str(place))
    settings(base_model_name_or_path=str(place))(place)
    with pytest.raises(ModelError, match="an adapter as well"):
        load_model(str(place))
    settings(base_model_name_or_path=str(good / "base"))(place)
    shutil.copy(good / "base" / "config.json", place)  # as some trainers leave it: still an adapter
    assert not torch.equal(load_model(str(place))(IDS).logits, llama()(IDS).logits)
    shutil.copy(good / "base" / "model.safetensors", place)
    with pytest.raises(ModelError, match=r"two models at once: .*adapter_config.json.*model.safetensors"):
        load_model(str(place))


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings")
@pytest.mark.parametrize(
    "adapted",
    [{"target_modules": ["lm_head"]}, {"target_modules": ["embed_tokens"]}, {"target_modules": ["q_proj", "lm_head"]},
     {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj"]}],
    ids=str,
)  # fmt: skip
def test_an_adapter_of_one_end_of_a_tied_model_says_what_peft_says(good, tmp_path, adapted):
    place = adapter(good / "tied", tmp_path / "lora", **adapted)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(good / "tied"), place).eval()
    model = load_model(str(place))
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, peft(IDS).logits, atol=1e-4)
        assert (model(IDS).logits - llama(tied=True)(IDS).logits).abs().max() > 0.1
    ends = [layer.weight.data_ptr() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    assert (ends[0] == ends[1]) == model.config.tie_word_embeddings == (adapted == {"target_modules": ["q_proj"]})


def test_an_adapter_of_the_text_model_of_a_multimodal_checkpoint_acts_there(tmp_path):
    whole = gemma3_with_vision()
    whole.save_pretrained(tmp_path / "whole")
    text = Gemma3ForCausalLM(whole.config.text_config).eval()
    text.model.load_state_dict(whole.model.language_model.state_dict())
    text.lm_head.load_state_dict(whole.lm_head.state_dict())
    lora = LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", alpha_pattern={"layers.1.self_attn.q_proj": 9}
    )
    peft = get_peft_model(text, lora).eval()
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    peft.peft_config["default"].base_model_name_or_path = str(tmp_path / "whole")
    peft.save_pretrained(tmp_path / "lora")
    with torch.no_grad():
        found, wanted = load_model(str(tmp_path / "lora"))(IDS).logits, peft(IDS).logits
        assert torch.allclose(found, wanted, atol=1e-4)
        assert (wanted - whole(IDS).logits).abs().max() > 0.1


def test_an_adapter_that_brings_no_tokenizer_takes_that_of_its_base(good, tmp_path):
    place = shutil.copytree(good / "lora", tmp_path / "lora")
    tokenizer = load_tokenizer(str(place))
    assert tokenizer.get_vocab() == load_tokenizer(str(good / "base")).get_vocab()
    tokenizer.add_tokens(["<its-own>"])
    tokenizer.save_pretrained(place)
    assert "<its-own>" in load_tokenizer(str(place)).get_vocab()
