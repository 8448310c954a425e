"""A model is loaded whole and as its config says, or refused by name in three lines, before anything is measured."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import gpt2, llama, saved, word_tokenizer

from sa_lightning.errors import ModelError
from sa_lightning.models import load_config, load_model

UP = "model.layers.1.mlp.up_proj.weight"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    saved(llama(), root / "base")
    saved(llama(tied=True), root / "tied")
    llama().save_pretrained(root / "sharded", max_shard_size="20KB")
    word_tokenizer().save_pretrained(root / "sharded")
    saved(gpt2(), root / "gpt2")
    return root


def config(**changes):
    def change(place: Path) -> None:
        known = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(known | changes))

    return change


def tensors(change, file=WEIGHTS):
    def make(place: Path) -> None:
        found = load_file(place / file)
        change(found)
        save_file(found, place / file, metadata={"format": "pt"})

    return make


def put(**values):
    return tensors(lambda found: found.update({name.replace("__", "."): value for name, value in values.items()}))


def content(file, value):
    return lambda place: (place / file).write_bytes(value if isinstance(value, bytes) else value.encode())


def pickled(place: Path) -> None:
    (place / WEIGHTS).rename(place / "pytorch_model.bin")


def refused(source: Path, match: str) -> None:
    """Refused in three lines, and without the traceback of a library."""
    with pytest.raises(ModelError, match=match) as error:
        load_model(str(source))
    assert str(error.value).count("\n") == 2, str(error.value)


def broken(good: Path, tmp_path: Path, change, of="base") -> Path:
    place = shutil.copytree(good / of, tmp_path / "model")
    change(place)
    return place


CASES = {
    "a tensor missing": (tensors(lambda t: t.pop(UP)), rf"lacks `{UP}` of a LlamaForCausalLM"),
    "a tensor renamed": (tensors(lambda t: t.update(x=t.pop(UP))), "lacks `model.layers.1.mlp.up_proj"),
    "all renamed": (tensors(lambda t: [t.update({f"old.{k}": t.pop(k)}) for k in list(t)]), "lacks .* and 27 more"),
    "another shape": (
        put(**{UP.replace(".", "__"): torch.zeros(3, 3)}),
        r"as \(3, 3\), but its config makes it \(64, 32",
    ),
    "no dimension": (put(**{UP.replace(".", "__"): torch.tensor(1.0)}), r"as \(\), but its config"),
    "a layer too many": (
        tensors(lambda t: t.update({k.replace("s.1.", "s.7."): v.clone() for k, v in list(t.items()) if "s.1." in k})),
        r"holds `model.layers.7.input_layernorm.weight`.* and 6 more tensors, for which a LlamaForCausalLM",
    ),
    "a bias too many": (
        put(model__layers__1__self_attn__q_proj__bias=torch.ones(32)),
        r"q_proj.bias`, for which",
    ),
    "more layers in the config": (config(num_hidden_layers=5), "lacks .* and 15 more"),
    "fewer layers in the config": (config(num_hidden_layers=2), "has no place"),
    "a billion layers": (config(num_hidden_layers=10**9), "describes 1000000000 layers"),
    "a width that no memory holds": (config(hidden_size=4 * 10**6), "its files hold 30 tensors of"),
    "a vocabulary that no memory holds": (config(vocab_size=10**12), "its files hold 30 tensors of"),
    "another width": (config(hidden_size=64), r"\(30 tensors differ\)"),
    "no layers": (config(num_hidden_layers=0), "says `num_hidden_layers`: 0"),
    "layers in words": (config(num_hidden_layers="three"), "describes no model.*\n.*num_hidden_layers.*got str"),
    "no heads": (config(num_attention_heads=0), "describes no model"),
    "an unknown activation": (config(hidden_act="quantum"), "describes no model.*\n.*quantum"),
    "a rope without its numbers": (config(rope_parameters={"rope_type": "yarn"}), "factor"),
    "cut": (lambda place: os.truncate(place / WEIGHTS, 60_000), "not a whole safetensors file: its tensors need"),
    "no bytes": (content(WEIGHTS, b""), "not a whole safetensors file"),
    "garbage": (content(WEIGHTS, bytes(range(256)) * 40), "not a whole safetensors file: its header would need"),
    "a header that is a list": (content(WEIGHTS, b"\x02" + b"\0" * 7 + b"[]"), "header is no JSON object"),
    "no weights": (lambda place: (place / WEIGHTS).unlink(), "has no weights: neither"),
    "a pickle alone": (pickled, "as pickle only"),
    "GPTQ": (config(quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantised \(gptq\)"),
    "fp8": (config(quantization_config={"quant_method": "fp8"}), r"is quantised \(fp8\)"),
    "quantised by nobody": (config(quantization_config={"quant_method": "quantum"}), "quantum"),
    "whole numbers": (tensors(lambda t: t.update({UP: t[UP].int()})), "1 weights as no floats.*as int32"),
    "truth values": (tensors(lambda t: t.update({UP: t[UP] > 0})), "as bool"),
    "bytes of floats": (tensors(lambda t: t.update({UP: t[UP].to(torch.float8_e4m3fn)})), "as float8_e4m3fn"),
    "NaN": (tensors(lambda t: t[UP].fill_(float("nan"))), "logits of .* are not finite after the tokens"),
    "infinity": (tensors(lambda t: t["lm_head.weight"].fill_(1e38)), "logits of .* are not finite after the tokens"),
    "a config that is cut": (content("config.json", "{"), r"config.json cannot be read as JSON: .*line 1 column 2"),
    "a config that is a list": (content("config.json", "[]"), "holds no JSON object, but list"),
    "a config nested deeply": (content("config.json", "[" * 100_000), "cannot be read as JSON"),
    "a type that nobody knows": (config(model_type="quantum"), "`model_type`: 'quantum', which transformers"),
    "a type that is a list": (config(model_type=["llama"]), "`model_type`"),
    "custom code": (
        config(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"}),
        "Python code of its own.*\n.*\n.*trust_remote_code",
    ),
    "an encoder": (config(model_type="bert", architectures=["BertForMaskedLM"]), "is an encoder"),
    "a classifier": (config(architectures=["LlamaForSequenceClassification"]), "has no language-model head"),
    "code named by a config": (config(attn_implementation="evil/kernel"), "asks for the code `evil/kernel`"),
    "weights named by a config": (config(transformers_weights="../x.safetensors"), "names its own file of weights"),
    "generation settings": (
        content("generation_config.json", '{"eos_token_id": "x"}'),
        "cannot run.*\n.*\n.*generation_config",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_checkpoint_is_refused_in_three_lines(good, tmp_path, name):
    change, match = CASES[name]
    refused(broken(good, tmp_path, change), match)


def test_a_shard_that_is_gone_is_named(good, tmp_path):
    place = broken(good, tmp_path, lambda place: (place / "model-00003-of-00008.safetensors").unlink(), "sharded")
    refused(place, r"names model-00003-of-00008.safetensors, which is not there \(1 of 8 shards")


def test_a_stray_file_of_weights_beside_an_index_is_refused_with_both_named(good, tmp_path):
    place = broken(good, tmp_path, lambda place: shutil.copy(good / "base" / WEIGHTS, place), "sharded")
    refused(place, "two checkpoints: `model.safetensors`, and the shards that `model.safetensors.index.json` names")


@pytest.mark.parametrize(
    "change",
    [
        put(model__layers__1__self_attn__rotary_emb__inv_freq=torch.ones(4)),  # as old versions stored it
        put(vision_tower__encoder__weight=torch.ones(4)),  # of a multimodal checkpoint, loaded as its text model
        put(v_head__summary__weight=torch.ones(1, 32)),  # of reinforcement learning
        config(quantization_config=None),
    ],
)
def test_what_does_not_belong_to_the_decoder_is_left_alone(good, tmp_path, change):
    model = load_model(str(broken(good, tmp_path, change)))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), llama().parameters(), strict=True))


@pytest.mark.parametrize("of", ["base", "tied", "sharded", "gpt2"])
def test_good_models_are_loaded_as_they_are(good, of):
    expected = {"base": llama, "sharded": llama, "tied": lambda: llama(tied=True), "gpt2": gpt2}[of]().state_dict()
    found = load_model(str(good / of)).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_missing_config_and_a_malformed_one_are_told_apart(good, tmp_path):
    place = broken(good, tmp_path, lambda place: (place / "config.json").unlink())
    with pytest.raises(ModelError, match="No model could be found"):
        load_config(str(place))
    (place / "config.json").write_text('{"model_type": "llama",\n"hidden_size" 3}')
    with pytest.raises(ModelError, match="line 2"):
        load_config(str(place))


@pytest.mark.parametrize(
    "name", ["x" * 300, "a/" * 3000, "nul\0byte", "", "org/" + "y" * 200, "./nowhere.gguf", "\ud800"]
)
def test_a_name_that_no_model_can_have_is_refused_in_words(name):
    with pytest.raises(ModelError):
        load_model(name)


def test_an_index_may_name_a_head_that_is_tied_and_so_not_stored(good, tmp_path):
    place = shutil.copytree(good / "tied", tmp_path / "model")
    names = [*load_file(place / WEIGHTS), "lm_head.weight"]
    (place / WEIGHTS).rename(place / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(load_model(str(place)).lm_head.weight, load_model(str(good / "tied")).lm_head.weight)
    config(tie_word_embeddings=False)(place)
    refused(place, "lacks `lm_head.weight`")
