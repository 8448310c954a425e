"""GGUF files as checkpoints: the weights of the model they were made of, once, whole, and refused by name."""

import json
import shutil

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

from sa_lightning.errors import ModelError
from sa_lightning.models import load_config, load_model, load_tokenizer, quantization_of
from sa_lightning.models.gguf import converted
from sa_lightning.names import resolve_worlds

TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "c", "d", "Ġ", "Ġa", "ab"]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def small_llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            initializer_range=0.3,
            tie_word_embeddings=False,
        )
    ).eval()


def interleaved(weight, heads):
    """Rows of a query or key projection in the order of GGUF, whose rotary pairs are neighbours."""
    width = weight.shape[0] // heads
    order = [
        head * width + half * width // 2 + i for head in range(heads) for i in range(width // 2) for half in (0, 1)
    ]
    return weight[order]


def write_gguf(path, model, architecture="llama"):
    config = model.config
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["Ġ a", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, tensor in model.state_dict().items():
        value = tensor.detach().float()
        parts = name.split(".")
        if parts[1] == "layers":
            inner = ".".join(parts[3:-1])
            if inner == "self_attn.q_proj":
                value = interleaved(value, config.num_attention_heads)
            if inner == "self_attn.k_proj":
                value = interleaved(value, config.num_key_value_heads)
            target = f"blk.{parts[2]}.{names[inner]}.weight"
        else:
            flat = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}
            target = f"{flat.get(name, 'output')}.weight"
        writer.add_tensor(target, np.ascontiguousarray(value.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path):
    return write_gguf(tmp_path / "small.gguf", small_llama())


def test_a_converted_file_computes_what_the_model_does(cache, file):
    ids = torch.tensor([[1, 3, 4, 5, 8, 9]])
    with torch.no_grad():
        expected = small_llama()(ids).logits
        found = load_model(str(file))(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_its_tokenizer_and_template_come_along(cache, file):
    tokenizer = load_tokenizer(str(file))
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer("ab c").tokens() == ["ab", "Ġ", "c"]
    assert tokenizer("ab c").input_ids == [TOKENS.index(token) for token in ("ab", "Ġ", "c")]
    assert load_config(str(file)).num_hidden_layers == 2


def test_what_an_artifact_records_of_its_model_says_that_it_was_quantised(cache, file):
    assert quantization_of(load_model(str(file))) == "GGUF F32, dequantised"
    assert quantization_of(small_llama()) is None


def test_a_file_is_converted_once_and_says_what_it_was(cache, file):
    said = []
    first = converted(file, say=said.append)
    assert len(said) == 1
    assert "F32" in said[0]
    assert "llama" in said[0]
    moved = shutil.copy(file, file.with_name("other-name.gguf"))  # the same content, for whoever names it
    assert converted(file, say=said.append) == first
    assert len(said) == 1
    assert json.loads((first / "gguf.json").read_text())["quantisation"] == "F32"
    assert converted(moved).name.startswith("other-name-")
    assert not list(first.parent.glob(".*.partial"))


def test_the_command_line_takes_it_wherever_a_model_stands(cache, file):
    found = resolve_worlds({"model": {"target": str(file)}, "harm": [str(file)]}, 0, quiet=True)
    assert found == {"model": {"target": str(converted(file))}, "harm": [str(converted(file))]}


def test_an_architecture_that_cannot_be_read_is_refused_by_name(cache, tmp_path):
    file = write_gguf(tmp_path / "odd.gguf", small_llama(), "hyperbolic")
    with pytest.raises(ModelError, match=r"architecture `hyperbolic`.*cannot read[\s\S]*llama"):
        converted(file)
    assert not list((cache / "sa_lightning" / "gguf").glob("odd*"))


def test_no_file_no_gguf_and_half_a_gguf_are_told_apart(cache, file, tmp_path):
    with pytest.raises(ModelError, match="There is no file"):
        converted(tmp_path / "absent.gguf")
    pointer = tmp_path / "pointer.gguf"
    pointer.write_text("version https://git-lfs.example")
    with pytest.raises(ModelError, match="begins with b'vers'"):
        converted(pointer)
    whole = file.read_bytes()
    for share in (0.02, 0.5, 0.99):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ModelError, match="damaged"):
            converted(cut)


def test_a_file_without_some_tensors_is_refused_and_nothing_is_left(cache, tmp_path, monkeypatch):
    model = small_llama()
    kept = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.mlp" not in name}
    monkeypatch.setattr(model, "state_dict", lambda: kept)
    file = write_gguf(tmp_path / "thin.gguf", model)
    with pytest.raises(ModelError, match=r"lacks 3 tensors"):
        converted(file)
    assert [path for path in (cache / "sa_lightning" / "gguf").iterdir() if not path.name.endswith(".lock")] == []


def test_a_gguf_file_that_claims_more_than_it_has_is_refused_at_once(cache, file, tmp_path):
    whole = file.read_bytes()
    kinds, claims = whole.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type") + 8, 1 << 56
    depth = whole.index(b"llama.block_count") + len(b"llama.block_count") + 4
    places = {8: claims, 16: claims, kinds: claims}  # tensors, settings, and the kinds of tokens
    for number, (place, count) in enumerate([*places.items(), (depth, (1 << 32) - 1)]):
        width = 4 if place == depth else 8
        damaged = tmp_path / f"{number}.gguf"
        damaged.write_bytes(whole[:place] + count.to_bytes(width, "little") + whole[place + width :])
        with pytest.raises(ModelError, match="describes 4294967295 layers" if place == depth else "damaged"):
            converted(damaged)
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(whole.replace(b"llama.embedding_length", b"llama.embedding_lengty"))  # 4096 is the default
    with pytest.raises(ModelError, match="but its files hold 21 tensors of"):
        converted(renamed)
