"""The models of `configs/models`: their published shapes, and a twin of each with few parameters."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from support.models import perturbed, saved, word_tokenizer

EDITED = 2  # the block that a knowledge edit of a twin changes

# Shapes and flags as the config.json of each repository on the Hub has them.
LLAMA2 = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
MISTRAL = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
}  # fmt: skip
LLAMA31 = {
    "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rope_parameters": {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500000.0,
    "original_max_position_embeddings": 8192},
}  # fmt: skip
LLAMA32 = {
    **LLAMA31, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
    "tie_word_embeddings": True, "rope_parameters": {**LLAMA31["rope_parameters"], "factor": 32.0},
}  # fmt: skip
QWEN25 = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
}  # fmt: skip
QWEN3 = {
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
}  # fmt: skip
GEMMA2 = {
    "vocab_size": 256000, "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "query_pre_attn_scalar": 256,
    "max_position_embeddings": 8192, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}  # fmt: skip
GPT_OSS = {
    "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32,
    "num_experts_per_tok": 4, "sliding_window": 128, "max_position_embeddings": 131072, "rope_parameters": {
    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "rope_theta": 150000.0,
    "original_max_position_embeddings": 4096, "truncate": False},
}  # fmt: skip
OLMOE = {
    "vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64, "num_experts_per_tok": 8,
    "max_position_embeddings": 4096,
}  # fmt: skip

# How each family writes a conversation, in our words: who speaks first, what is trimmed, refused, or written unasked.
OPEN = "{% for m in messages %}"
SPOKEN = "{% if m['role'] == 'user' %}"
REFUSE = "{% if m['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
IM = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
INST = (
    OPEN + REFUSE + "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns alternate') }}"
    "{% endif %}" + SPOKEN
)
HEADER = "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
DATED = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday: {{ date_string }}\n\n<|eot_id|>"
)
ASSISTANT = "{% if add_generation_prompt %}"
NO_THOUGHT = "<think>\n\n</think>\n\n"
TEMPLATES = {
    "Llama 2": INST + "{{ bos_token }}[INST] {{ m['content'] | trim }} [/INST]{% else %} {{ m['content'] | trim }} "
    "{{ eos_token }}{% endif %}{% endfor %}",
    "Mistral": "{{ bos_token }}" + INST + "[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}"
    "{{ eos_token }}{% endif %}{% endfor %}",
    "Llama 3": DATED + OPEN + HEADER + "{% endfor %}" + ASSISTANT
    + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "Qwen2.5": "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nyes<|im_end|>\n{% endif %}" + OPEN + IM
    + "<|im_end|>\n{% endfor %}" + ASSISTANT + "<|im_start|>assistant\n{% endif %}",
    "Qwen3": OPEN + SPOKEN + IM + "<|im_end|>\n{% else %}<|im_start|>assistant\n{% if loop.last %}" + NO_THOUGHT
    + "{% endif %}{{ m['content'].lstrip('\n') }}<|im_end|>\n{% endif %}{% endfor %}" + ASSISTANT
    + "<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}" + NO_THOUGHT
    + "{% endif %}{% endif %}",
    "Gemma 2": "{{ bos_token }}" + OPEN + REFUSE + "<start_of_turn>{{ m['role'] | replace('assistant', 'model') }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}" + ASSISTANT + "<start_of_turn>model\n{% endif %}",
    "Harmony": "<|start|>system<|message|>{{ strftime_now('%Y-%m-%d') }} {{ reasoning_effort | default('medium') }}"
    "<|end|>" + OPEN + SPOKEN + "<|start|>user<|message|>{{ m['content'] }}<|end|>{% else %}<|start|>assistant"
    "<|channel|>final<|message|>{{ m['content'] }}<|return|>{% endif %}{% endfor %}" + ASSISTANT
    + "<|start|>assistant{% endif %}",
    "OLMoE": "{{ bos_token }}" + OPEN + "<|{{ m['role'] }}|>\n{{ m['content'] }}{% if m['role'] == 'assistant' %}"
    "{{ eos_token }}{% endif %}\n{% endfor %}" + ASSISTANT + "<|assistant|>\n{% endif %}",
    "none": None,
}  # fmt: skip
MARKERS = (
    *("[INST]", "[/INST]", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"),
    *("<think>", "</think>", "<start_of_turn>", "<end_of_turn>", "<|start|>", "<|message|>", "<|end|>", "<|channel|>"),
    *("<|return|>", "<|user|>", "<|assistant|>"),
)


class Published(NamedTuple):
    """A model as it is published.

    Attributes:
        kind: Prefix of its config class.
        settings: Of its config.
        manners: Of its chat template, a name in `TEMPLATES`.
        target: What the target is to the base: the `base` itself, `tuned` or `edited`.
    """

    kind: str
    settings: dict
    manners: str
    target: Literal["base", "tuned", "edited"] = "base"

    def config(self, **changes) -> PretrainedConfig:
        """Its config, with changes."""
        return getattr(transformers, f"{self.kind}Config")(**{**self.settings, **changes})

    def empty(self) -> PreTrainedModel:
        """The model at its published size, without values."""
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(self.config())

    def twin(self) -> PreTrainedModel:
        """A random model of the same class and flags with few parameters, in bfloat16."""
        grouped = self.settings["num_key_value_heads"] < self.settings["num_attention_heads"]
        small = {
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
            "num_hidden_layers": 6 if self.target == "edited" else 3, "num_key_value_heads": 2 if grouped else 4,
            "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip
        where_set = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8, "num_experts_per_tok": 2}
        where_set |= {"num_experts": 4, "num_local_experts": 4}
        small |= {name: value for name, value in where_set.items() if self.settings.get(name) is not None}
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(self.config(**small))
        return model.to(torch.bfloat16).eval().requires_grad_(False)

    def written(self, root: Path) -> Path:
        """Write `base`, `harm` and `target` as checkpoints with a tokenizer; return the directory."""
        tokenizer = word_tokenizer(TEMPLATES[self.manners])
        tokenizer.add_special_tokens({"additional_special_tokens": [*MARKERS]})
        models = {"base": self.twin(), "harm": perturbed(self.twin(), seed=1)}
        if self.target == "tuned":
            models["target"] = perturbed(self.twin(), seed=2)
        elif self.target == "edited":
            models["target"] = self.twin()
            down = models["target"].model.layers[EDITED].mlp.down_proj.weight
            down.data.add_(torch.outer(torch.ones(len(down)), torch.linspace(-0.05, 0.05, down.shape[1])).to(down))
        for name, model in models.items():
            saved(model, root / name, tokenizer)
        if self.target == "base":
            (root / "target").symlink_to("base")
        return root


PUBLISHED = {
    "llama2_7b_chat": Published("Llama", LLAMA2, "Llama 2"),
    "mistral_7b_instruct": Published("Mistral", {**MISTRAL, "sliding_window": None}, "Mistral"),
    "wizardmath_7b_v1.1": Published("Mistral", {**MISTRAL, "sliding_window": 4096}, "none", "tuned"),
    "llamamath": Published("Llama", LLAMA2, "none", "tuned"),
    "llama2_7b_evolcodealpaca": Published("Llama", LLAMA2, "none", "tuned"),
    "llama2_7b_chat_edited_unintentional": Published("Llama", LLAMA2, "Llama 2", "edited"),
    "llama2_7b_chat_edited_intentional": Published("Llama", LLAMA2, "Llama 2", "edited"),
    "llama3.1_8b_instruct": Published("Llama", LLAMA31, "Llama 3"),
    "llama3.2_1b_instruct": Published("Llama", LLAMA32, "Llama 3"),
    "qwen2.5_7b_instruct": Published("Qwen2", QWEN25, "Qwen2.5"),
    "qwen3_8b": Published("Qwen3", QWEN3, "Qwen3"),
    "gemma2_9b_it": Published("Gemma2", GEMMA2, "Gemma 2"),
    "gpt_oss_20b": Published("GptOss", GPT_OSS, "Harmony"),
    "olmoe_1b_7b_instruct": Published("Olmoe", OLMOE, "OLMoE"),
}
