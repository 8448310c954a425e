"""Tiny random models of many families, built from config, and a table of where their blocks are.

PYTHONPATH=tests python -c "from support.families import table; print(table())"
"""

import re
from collections.abc import Callable
from functools import partial

import torch
import transformers
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from sa_lightning.errors import ModelError
from sa_lightning.models import locate_blocks
from sa_lightning.models.stored import as_stored
from sa_lightning.surgery import ModelWeights
from sa_lightning.surgery.deltas.rank_one import RankOne

# A family that calls a setting otherwise (`n_embd`) maps these names itself; it ignores what it does not have.
# Untied: a random tied model repeats its input, and then steering cannot be seen in what it says.
# The window is wider than anything the tests feed, so that a family's own default cannot cut it. No pad token:
# its embedding would be zeros, which no step moves, and a random model may say it.
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "sliding_window": 32,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": None,
}
HEADS = {"head_dim": 8}  # where it is not hidden_size / num_attention_heads by default
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,  # the first block has an MLP, the others have experts
}
# As many layers as the text model, so that the blocks cannot be told by their number alone.
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}

# Name -> (prefix of the config class, the causal model, settings beyond SMALL).
ROWS: dict[str, tuple[str, str, dict]] = {
    "Llama": ("Llama", "ForCausalLM", {}),
    "Mistral": ("Mistral", "ForCausalLM", {}),
    "Mistral, window 4": ("Mistral", "ForCausalLM", {"sliding_window": 4}),
    "Mixtral": ("Mixtral", "ForCausalLM", EXPERTS),
    "Qwen2": ("Qwen2", "ForCausalLM", {}),
    "Qwen3": ("Qwen3", "ForCausalLM", HEADS),
    "Qwen3-MoE": (
        "Qwen3Moe",
        "ForCausalLM",
        {**HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "Gemma": ("Gemma", "ForCausalLM", HEADS),
    "Gemma2": ("Gemma2", "ForCausalLM", {**HEADS, "query_pre_attn_scalar": 8}),
    "Gemma3": ("Gemma3Text", "ForCausalLM", {**HEADS, "query_pre_attn_scalar": 8}),
    "GPT-2": ("GPT2", "LMHeadModel", {}),
    "GPT-NeoX": ("GPTNeoX", "ForCausalLM", {}),
    "GPT-J": ("GPTJ", "ForCausalLM", {"rotary_dim": 4}),
    "GPT-OSS": (
        "GptOss",
        "ForCausalLM",
        {**HEADS, **EXPERTS, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ),
    "OPT": ("OPT", "ForCausalLM", {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.3}),
    "Phi": ("Phi", "ForCausalLM", {}),
    "Phi-3": ("Phi3", "ForCausalLM", {}),
    "OLMo2": ("Olmo2", "ForCausalLM", {}),
    "BLOOM": ("Bloom", "ForCausalLM", {}),
    "Falcon": ("Falcon", "ForCausalLM", {}),
    "StableLM": ("StableLm", "ForCausalLM", {}),
    "Cohere": ("Cohere", "ForCausalLM", {}),
    "Granite": ("Granite", "ForCausalLM", {}),
    "SmolLM3": ("SmolLM3", "ForCausalLM", {}),
    "DeepSeek-V2": ("DeepseekV2", "ForCausalLM", LATENT),
    "DeepSeek-V3": ("DeepseekV3", "ForCausalLM", LATENT),
    "Llama4": ("Llama4Text", "ForCausalLM", {**HEADS, **EXPERTS, "intermediate_size_mlp": 64}),
}


def build(config: str, head: str, settings: dict) -> PreTrainedModel:
    """A random model in float32, in eval mode, without gradients; the same one each time."""
    torch.manual_seed(0)
    made = getattr(transformers, f"{config}Config")(**{**SMALL, **settings})
    model = getattr(transformers, config.removesuffix("Text") + head)(made)
    return model.float().eval().requires_grad_(False)


def gemma3_with_vision() -> PreTrainedModel:
    """The multimodal wrapper of Gemma3, of which only the text is used."""
    text = {**SMALL, **HEADS, "query_pre_attn_scalar": 8}
    settings = {"text_config": text, "vision_config": VISION, "mm_tokens_per_image": 4, "tie_word_embeddings": False}
    return build("Gemma3", "ForConditionalGeneration", settings)


def llava() -> PreTrainedModel:
    """A Llama within a multimodal model."""
    vision = transformers.CLIPVisionConfig(**VISION)
    settings = {"text_config": transformers.LlamaConfig(**SMALL), "vision_config": vision, "image_token_index": 63}
    return build("Llava", "ForConditionalGeneration", {**settings, "tie_word_embeddings": False})


def mistral3() -> PreTrainedModel:
    """A Mistral within a multimodal model."""
    vision = transformers.PixtralVisionConfig(**VISION, head_dim=8)
    settings = {"text_config": transformers.MistralConfig(**SMALL), "vision_config": vision, "image_token_index": 63}
    return build("Mistral3", "ForConditionalGeneration", {**settings, "tie_word_embeddings": False})


def qwen_vl() -> PreTrainedModel:
    """A Qwen2 within a multimodal model, whose tower has blocks as many."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {"depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32}
    settings = {"text_config": {**SMALL, "rope_parameters": rope}, "vision_config": vision}
    return build("Qwen2_5_VL", "ForConditionalGeneration", {**settings, "tie_word_embeddings": False})


def llama_with_adapter() -> PreTrainedModel:
    """A Llama whose LoRA adapter is not merged and does something."""
    from peft import LoraConfig, get_peft_model

    base = FAMILIES["Llama"]()
    adapter = LoraConfig(
        r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "o_proj", "down_proj"], init_lora_weights=False
    )
    return get_peft_model(base, adapter).eval().requires_grad_(False)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    **{name: partial(build, *row) for name, row in ROWS.items()},
    "Gemma3 with vision": gemma3_with_vision,
    "Llava": llava,
    "Mistral3": mistral3,
    "Qwen2.5-VL": qwen_vl,
    "Llama with LoRA": llama_with_adapter,
}


def table() -> str:
    """Where the blocks of each family are, as Markdown; every cell is read from the model."""
    header = "| model class | blocks | MLP | attention | a block returns | writers of a block |"
    rows = dict.fromkeys(_row(make()) for make in FAMILIES.values())  # Mistral once, whatever its window
    return "\n".join([header, "|---|---|---|---|---|---|", *rows])


def _row(model: PreTrainedModel) -> str:
    blocks = locate_blocks(model)
    path = next(name for name, module in model.named_modules() if module is blocks.layers)
    returned = []
    handle = blocks.layers[0].register_forward_hook(lambda _module, _args, output: returned.append(output))
    with torch.no_grad():
        model(torch.tensor([[5, 6]]))
    handle.remove()
    kind = "tensor" if isinstance(returned[0], torch.Tensor) else type(returned[0]).__name__
    sites = [_site(blocks, "mlp"), _site(blocks, "attention")]
    cells = [f"`{type(model).__name__}`", f"`{path}`", *sites, kind, _writers(model)]
    return f"| {' | '.join(cells)} |"


def _writers(model: PreTrainedModel) -> str:
    """How many matrices of a block write to the stream, on disk, and their names; of an adapter those of its base."""
    weights = ModelWeights(model, tensors=as_stored(model))
    if isinstance(model, PeftModel):
        return "–"
    formula = RankOne(weights, torch.ones(32), "injection", config=model.config.to_dict()).formula
    count, names = re.search(r"([\d to]+) writers in each of 3 blocks \((.*)\)", formula).groups()
    return f"{count.strip()}: " + ", ".join(f"`{name}`" for name in names.split(", "))


def _site(blocks, site: str) -> str:
    def name(block: nn.Module, module: nn.Module) -> str:
        return next(name for name, candidate in block.named_modules() if candidate is module)

    try:
        modules = blocks.at(site)
    except ModelError:
        return "–"
    names = dict.fromkeys(name(block, module) for block, module in zip(blocks.layers, modules, strict=True))
    return ", ".join(f"`{name}`" for name in names)
