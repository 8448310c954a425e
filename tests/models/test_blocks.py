import pytest
import torch
from support.models import gpt2, llama
from transformers import AutoModelForCausalLM, GemmaConfig, GPTNeoXConfig, Qwen2Config

from sa_lightning.errors import ModelError
from sa_lightning.models import last_positions, locate_blocks, position_ids
from sa_lightning.models.loading import load_config, load_model

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.mark.parametrize("config", [Qwen2Config, GemmaConfig, GPTNeoXConfig])
def test_blocks_of_several_families_are_found_by_their_number(config):
    model = AutoModelForCausalLM.from_config(config(**SMALL))
    blocks = locate_blocks(model)
    assert len(blocks.layers) == 3
    assert blocks.decoder is model.get_decoder()
    assert len(blocks.at("mlp")) == len(blocks.at("attention")) == 3


def test_blocks_are_found_through_a_peft_wrapper():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
    assert len(locate_blocks(model).layers) == 3


def test_a_module_without_layers_is_refused():
    with pytest.raises(ModelError, match=r"no `config\.num_hidden_layers`"):
        locate_blocks(torch.nn.Linear(2, 2))
    model = gpt2()
    model.config.n_layer = 9
    with pytest.raises(ModelError, match=r"No list of 9 decoder blocks .* transformer.h \(2\)"):
        locate_blocks(model)


def test_positions_count_real_tokens_from_zero_and_from_the_end():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])
    assert position_ids(mask)[0].tolist() == [0, 0, 0, 1, 2]
    assert position_ids(mask)[1, :2].tolist() == [0, 1]
    positions, valid = last_positions(mask, 3)
    assert positions[0].tolist() == [4, 3, 2]
    assert positions[1].tolist()[:2] == [1, 0]
    assert valid.tolist() == [[True] * 3, [True, True, False]]
    with pytest.raises(ValueError, match="without a single real token"):
        last_positions(torch.zeros(1, 3))


def test_an_adapter_is_merged_and_equals_the_adapted_model(tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    llama().save_pretrained(tmp_path / "base")
    adapted = get_peft_model(llama(), LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        (tmp_path / "adapter" / "adapter_config.json")
        .read_text()
        .replace('"base_model_name_or_path": null', f'"base_model_name_or_path": "{tmp_path}/base"')
    )
    merged = load_model(str(tmp_path / "adapter"))
    assert not isinstance(merged, PeftModel)
    ids = torch.randint(6, 20, (2, 7))
    assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in merged.parameters())


def test_a_missing_model_is_named_before_anything_is_loaded():
    with pytest.raises(ModelError, match=r"No model could be found at \./nowhere"):
        load_config("./nowhere")
