"""Packed weights: loaded as they are or unpacked exactly, steered and fitted like any others, never edited."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.fits import by_hand
from support.lm_eval_tasks import write_bakery
from support.models import ask, llama, padded, perturbed, rule_for, saved, word_tokenizer
from transformers import GptOssConfig, GptOssForCausalLM

from sa_lightning import SteeringArtifact, steer
from sa_lightning.cli import main
from sa_lightning.errors import ArtifactError, CheckpointError, ModelError, SettingError
from sa_lightning.export.lm_eval_model import SafetyLM
from sa_lightning.fitting import SteeringSettings, Surgery, extract, fit_artifact
from sa_lightning.fitting.demonstrations import Demonstrations
from sa_lightning.models import LoadedModel, load_config, load_model, quantization_of
from sa_lightning.steering import PAIRS, weights_fingerprint
from sa_lightning.surgery import ModelWeights, Sources, open_checkpoint

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="needs bitsandbytes: pip install 'sa_lightning[quantised]'",
)
ROWS = [ask("how do i bake a cake"), ask("break a window"), ask("how do i break a cake ,"), ask("bake")]
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
NF4 = "4bit, bitsandbytes nf4"


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    return saved(llama(width=64), tmp_path_factory.mktemp("floats") / "model")


@pytest.fixture(scope="module", params=["8bit", "4bit"])
def bits(request):
    return request.param


@pytest.fixture(scope="module")
def packed(floats, bits):
    return load_model(str(floats), quantization=bits)


def says(directory, **quantization):
    """Let a config say that weights are packed."""
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    return directory


def rewritten(directory, pack):
    """Pack the tensors that `pack` gives others for; return what they are unpacked."""
    stored, plain = {}, {}
    for name, tensor in load_file(directory / "model.safetensors").items():
        given = pack(name, tensor)
        stored |= {name: tensor} if given is None else given[0]
        plain[name] = tensor if given is None else given[1]
    save_file(stored, directory / "model.safetensors", metadata={"format": "pt"})
    return plain


def fp8(directory):
    """A Llama whose projections are float8 with a scale for every 32 × 32 block."""

    def pack(name, tensor):
        if not name.endswith("proj.weight"):
            return None
        blocks, scale = 50 * torch.randn(tensor.shape), 0.01 * torch.rand([size // 32 for size in tensor.shape])
        values = blocks.to(torch.float8_e4m3fn)
        plain = values.float() * scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
        return {name: values, name.replace("weight", "weight_scale_inv"): scale}, plain

    saved(llama(width=64), directory)
    says(directory, quant_method="fp8", weight_block_size=[32, 32], activation_scheme="dynamic")
    return directory, rewritten(directory, pack)


def mxfp4(directory):
    """A small gpt-oss whose experts are 4-bit floats, two in a byte, with a power of two for every 32."""

    def pack(name, tensor):
        if not name.endswith("_proj"):
            return None
        experts, rows, columns = tensor.shape
        values = torch.randint(0, 16, (experts, columns, rows // 32, 32))
        scale = torch.randint(120, 126, (experts, columns, rows // 32))
        blocks = (values[..., ::2] | (values[..., 1::2] << 4)).to(torch.uint8)
        plain = E2M1[values & 7] * (1.0 - 2 * (values >> 3)) * 2.0 ** (scale - 127)[..., None]
        return (
            {f"{name}_blocks": blocks, f"{name}_scales": scale.to(torch.uint8)},
            plain.reshape(experts, columns, rows).transpose(1, 2),
        )

    config = GptOssConfig(
        vocab_size=21, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=64,
        sliding_window=16, initializer_range=0.2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    torch.manual_seed(0)
    saved(GptOssForCausalLM(config), directory)
    says(directory, quant_method="mxfp4", modules_to_not_convert=["lm_head"])
    return directory, rewritten(directory, pack)


@pytest.mark.parametrize("kind", [fp8, mxfp4])
def test_other_formats_are_unpacked_exactly_where_that_is_asked_for_and_their_copy_can_be_edited(kind, tmp_path):
    torch.manual_seed(1)
    directory, plain = kind(tmp_path / "model")
    with pytest.raises(ModelError, match=rf"is quantised \({kind.__name__}\).*\n.*\n.*--model.quantization dequantize"):
        load_model(str(directory))
    with pytest.raises(CheckpointError, match=r"is quantised .*\n(.*\n)*.*quantization=\"dequantize\""):
        open_checkpoint(directory)
    model = load_model(str(directory), quantization="dequantize")
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())
    model.save_pretrained(tmp_path / "copy")
    assert set(open_checkpoint(tmp_path / "copy").names) == set(plain)
    assert {quantization_of(model), quantization_of(load_model(str(tmp_path / "copy")))} == {
        f"{kind.__name__}, dequantised"
    }


@pytest.mark.parametrize("asked", [None, "8bit", "dequantize"])
def test_formats_that_are_not_read_are_refused_by_name(asked, tmp_path):
    says(saved(llama(), tmp_path / "model"), quant_method="gptq", bits=4)
    with pytest.raises(ModelError, match=r"is quantised \(gptq\)(.*\n)*.*checkpoint that it was made from"):
        load_config(str(tmp_path / "model"), quantization=asked)


def test_a_config_that_calls_floats_packed_is_refused_and_so_is_unpacking_floats(tmp_path):
    directory = saved(llama(width=64), tmp_path / "model")
    with pytest.raises(ModelError, match=r"is not quantised, and `--model.quantization dequantize` is asked for"):
        load_config(str(directory), quantization="dequantize")
    says(directory, quant_method="mxfp4")
    with pytest.raises(ModelError, match="packed, but its files hold floats alone"):
        load_model(str(directory), quantization="dequantize")


def test_without_bitsandbytes_the_way_to_install_it_is_told_before_weights_are_read(floats, monkeypatch, refused):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = refused("predict", "--model.target", floats, "--model.quantization", "4bit", "--data.prompts", "[bake]",
                   "--output", floats.parent / "out", "--trainer.accelerator", "cpu")  # fmt: skip
    assert "would be quantised by bitsandbytes, which is not installed" in told
    assert "pip install 'sa_lightning[quantised]'" in told


def test_an_edit_of_weights_that_are_to_be_packed_is_refused_before_anything_is_read():
    surgery = Surgery(Sources(harm="nowhere"))
    with pytest.raises(SettingError, match=r"nowhere/either is to be loaded with `--model.quantization 4bit`") as error:
        surgery.open("nowhere/either", None, "4bit")
    assert "`sa edit`, then load its output with `--model.quantization 4bit`" in str(error.value)
    with pytest.raises(SettingError, match="`quantization=3bit` in --model_args"):
        SafetyLM(pretrained="nowhere", quantization="3bit")


def test_an_adapter_is_not_merged_into_packed_weights(floats, tmp_path):
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(floats)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(ModelError, match=r"merged into .* quantised to 4bit(.*\n)*.*save_pretrained\(MERGED\)"):
        load_config(str(tmp_path), quantization="4bit")
    packed = saved(llama(), tmp_path / "packed")
    says(packed, quant_method="bitsandbytes", load_in_8bit=True)
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter | {"base_model_name_or_path": str(packed)}))
    with pytest.raises(ModelError, match="rounded to few bits"):
        load_config(str(tmp_path))


class Packed(torch.nn.Linear):
    """As bitsandbytes' layers: whole numbers as weights, their scale in the state dict alone."""

    def __init__(self, scale, dtype=torch.int8):
        super().__init__(4, 4, bias=False)
        self.weight = torch.nn.Parameter(torch.arange(16).reshape(4, 4).to(dtype), requires_grad=False)
        self.scale = torch.tensor(scale)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}scale"] = self.scale


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
def test_scales_belong_to_the_identity_of_weights_and_packed_ones_are_not_edited_in_memory(dtype):
    one, same, other = (torch.nn.Sequential(Packed(scale, dtype)) for scale in (1.0, 1.0, 2.0))
    assert weights_fingerprint(one) == weights_fingerprint(same) != weights_fingerprint(other)
    with pytest.raises(CheckpointError, match=r"are packed: it has a `0\.(weight|scale)`(.*\n)*.*`sa edit`"):
        ModelWeights(one)


@needs_bitsandbytes
def test_packed_weights_have_an_identity_of_their_own_and_are_read_again_as_they_were_saved(
    packed, floats, bits, tmp_path
):
    others = [load_model(str(floats)), load_model(str(floats), quantization={"4bit": "8bit", "8bit": "4bit"}[bits])]
    assert weights_fingerprint(packed) not in [weights_fingerprint(other) for other in others]
    before = weights_fingerprint(packed)
    with torch.no_grad():
        logits = packed(**padded(ROWS)).logits
    packed.save_pretrained(tmp_path / "packed")  # after a forward
    again = load_model(str(tmp_path / "packed"))
    assert before == weights_fingerprint(packed) == weights_fingerprint(again)
    assert torch.equal(again(**padded(ROWS)).logits, logits)
    assert quantization_of(again) == {"4bit": NF4, "8bit": "8bit, bitsandbytes"}[bits]
    with pytest.raises(CheckpointError, match=r"is quantised \(bitsandbytes\)"):
        open_checkpoint(tmp_path / "packed")
    with pytest.raises(CheckpointError, match="are packed"):
        ModelWeights(again)
    with pytest.raises(ModelError, match=f"is quantised to {bits} already"):
        load_config(str(tmp_path / "packed"), quantization={"4bit": "8bit", "8bit": "4bit"}[bits])
    unpacked = load_model(str(tmp_path / "packed"), quantization="dequantize")
    assert quantization_of(unpacked) == f"{quantization_of(again)}, dequantised"
    if bits == "4bit":  # 8 bits round the states as well
        torch.testing.assert_close(unpacked(**padded(ROWS)).logits, logits)


@needs_bitsandbytes
def test_a_packed_model_computes_in_the_type_of_its_stream(floats):
    model = load_model(str(floats), quantization="4bit", dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert {module.compute_dtype for module in model.modules() if hasattr(module, "compute_dtype")} == {torch.bfloat16}


@needs_bitsandbytes
@torch.no_grad()
def test_steering_a_packed_model_keeps_its_laws(packed, bits):
    artifact = SteeringArtifact(
        {PAIRS: rule_for(packed)}, {"original": weights_fingerprint(packed)}, "packed", num_layers=3, d_model=64
    )
    batch, generate = padded(ROWS), {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    plain = packed(**batch).logits
    with steer(packed, artifact, strength=0.0):
        assert torch.equal(packed(**batch).logits, plain)
    with steer(packed, artifact):
        moved = packed(**batch).logits
        assert (moved - plain).abs().max() > 0.01
        if bits == "4bit":  # with 8 bits, columns of outliers are found in the whole batch
            apart = [packed(**padded([row])).logits[0, -1] for row in ROWS]
            torch.testing.assert_close(moved[:, -1], torch.stack(apart))
            replies = [packed.generate(**batch, use_cache=cached, **generate) for cached in (True, False)]
            assert torch.equal(*replies)
    assert torch.equal(packed(**batch).logits, plain)


@needs_bitsandbytes
def test_a_fit_reads_the_states_of_the_packed_model_and_records_how_it_was_packed(
    packed, floats, bits, demonstrations, tmp_path
):
    target = LoadedModel(packed, word_tokenizer(), "packed")
    data = Demonstrations(str(demonstrations))
    data.read()
    passages = data.passages(target.tokenizer, target.max_length)
    found = extract(packed, passages, batch_size=1, share_prefixes=False)
    if bits == "4bit":
        for side, expected in zip((found.safe, found.unsafe), by_hand(packed, demonstrations), strict=True):
            torch.testing.assert_close(side, expected, rtol=1e-4, atol=1e-4)
    artifact = fit_artifact(target, SteeringSettings(strength=0.2), str(demonstrations))
    assert SteeringArtifact.from_pretrained(artifact.save_pretrained(tmp_path / "a")).quantization == quantization_of(
        packed
    )
    assert f"quantised ({quantization_of(packed)})" in (tmp_path / "a" / "README.md").read_text()
    plain = load_model(str(floats))
    with pytest.raises(ArtifactError, match=rf"were quantised \({bits}, bitsandbytes.*\), these are not quantised"):
        steer(plain, artifact).__enter__()
    with steer(plain, artifact, allow_other_weights=True), steer(packed, artifact):
        pass


@needs_bitsandbytes
def test_the_way_round_edits_floats_then_packs_what_came_of_it_and_steers_that(floats, demonstrations, tmp_path):
    saved(perturbed(llama(width=64), seed=1), tmp_path / "harm")
    edited, artifact = str(tmp_path / "edited"), tmp_path / "artifact"
    main(["edit", "--base", str(floats), "--harm", str(tmp_path / "harm"), "--output", edited])
    target = LoadedModel(load_model(edited, quantization="4bit"), word_tokenizer(), edited)
    fit_artifact(target, SteeringSettings(strength=0.2), str(demonstrations)).save_pretrained(artifact)
    write_bakery(tmp_path, 2)
    main(["validate", "--model.target", edited, "--model.quantization", "4bit", "--artifact", str(artifact),
          "--evaluation.task_dirs", f"[{tmp_path}]", "--evaluation.tasks", "[bakery_replies]",
          "--output", str(tmp_path / "out"), "--trainer.accelerator", "cpu"])  # fmt: skip
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["quantization"] == NF4
    assert {"original", "steered"} <= results["arms"].keys()
