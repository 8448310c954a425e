"""The models of `configs/models`: their published shapes, and a twin of each with few parameters."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from support.manners import manner
from support.models import perturbed, saved

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


class Published(NamedTuple):
    """A model as it is published.

    Attributes:
        kind: Prefix of its config class.
        settings: Of its config.
        manner: Of its chat template, a name in `support.manners`; none, where it comes without one.
        target: What the target is to the base: the `base` itself, `tuned` or `edited`.
    """

    kind: str
    settings: dict
    manner: str | None
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
        tokenizer = manner(self.manner or "bare")
        tokenizer.chat_template = tokenizer.chat_template if self.manner else None
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
    "llama2_7b_chat": Published("Llama", LLAMA2, "bos"),
    "mistral_7b_instruct": Published("Mistral", {**MISTRAL, "sliding_window": None}, "bos"),
    "wizardmath_7b_v1.1": Published("Mistral", {**MISTRAL, "sliding_window": 4096}, None, "tuned"),
    "llamamath": Published("Llama", LLAMA2, None, "tuned"),
    "llama2_7b_evolcodealpaca": Published("Llama", LLAMA2, None, "tuned"),
    "llama2_7b_chat_edited_unintentional": Published("Llama", LLAMA2, "bos", "edited"),
    "llama2_7b_chat_edited_intentional": Published("Llama", LLAMA2, "bos", "edited"),
    "llama3.1_8b_instruct": Published("Llama", LLAMA31, "llama3"),
    "llama3.2_1b_instruct": Published("Llama", LLAMA32, "llama3"),
    "qwen2.5_7b_instruct": Published("Qwen2", QWEN25, "chatml"),
    "qwen3_8b": Published("Qwen3", QWEN3, "qwen3"),
    "gemma2_9b_it": Published("Gemma2", GEMMA2, "gemma"),
    "gpt_oss_20b": Published("GptOss", GPT_OSS, "harmony"),
    "olmoe_1b_7b_instruct": Published("Olmoe", OLMOE, "bos"),
}
