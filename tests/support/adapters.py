"""Random PEFT adapters of every kind, written by peft itself."""

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from support.models import llama

#: Settings of `LoraConfig` by the kind of adapter that they make, over `with_biases()`.
KINDS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True, "alpha_pattern": {"q_proj": 3}},
    "DoRA": {"use_dora": True},
    "biases": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "DoRA and biases": {"use_dora": True, "bias": "all", "use_rslora": True},
    "saved modules": {"modules_to_save": ["norm", "lm_head"]},
}
ENDS = {
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["embed_tokens"]},
    "DoRA of the embedding": {"target_modules": ["embed_tokens"], "use_dora": True},
    "both ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "saved head": {"modules_to_save": ["lm_head"]},
    "saved embedding": {"modules_to_save": ["embed_tokens"]},
}


def with_biases(seed: int = 0, **settings) -> LlamaForCausalLM:
    """A random Llama whose projections have biases."""
    config = llama(seed).config
    config.update({"attention_bias": True, "mlp_bias": True, **settings})
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.normal_(std=0.1)
    return model


def write_adapter(base: Path, place: Path, seed: int = 3, merged: bool = True, **settings) -> PreTrainedModel:
    """Write a random adapter over a saved base, and return what peft merges, or the adapted model."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    settings = {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"], **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: PeftModel = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        adapted.save_pretrained(place)
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), place)
    return loaded.merge_and_unload() if merged else loaded
