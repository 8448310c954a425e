"""Tiny random models, a tokenizer of twenty words, and artifacts for them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from sa_lightning.steering import (
    PAIRS,
    FittedGate,
    GateRecord,
    GateSettings,
    GateState,
    Rule,
    SteeringArtifact,
    random_directions,
    weights_fingerprint,
)

WORDS = ["how", "do", "i", "bake", "break", "a", "cake", "window", "first", "then", "sorry", "no", "yes", ".", ","]
SPECIAL = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>", "<unk>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<user> {{ m['content'] }} "
    "{% else %}<assistant> {{ m['content'] }} {{ eos_token }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def word_tokenizer(template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of some twenty words."""
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    tokenizer.chat_template = template
    return tokenizer


def llama(seed: int = 0, layers: int = 3, width: int = 32, tied: bool = False) -> LlamaForCausalLM:
    """A random Llama that makes decisive, varied predictions."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SPECIAL + WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def gpt2(seed: int = 0) -> GPT2LMHeadModel:
    """A random GPT-2: learned positions, and a Conv1D where others have Linear."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(SPECIAL + WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3
    )
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def perturbed(model: torch.nn.Module, seed: int, size: float = 0.05) -> torch.nn.Module:
    """Move every parameter a little: a stand-in for a fine-tune."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def mistral() -> MistralForCausalLM:
    """A random Mistral whose attention reaches back six tokens: its cache forgets what lies before."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(SPECIAL + WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=6, initializer_range=0.2, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return MistralForCausalLM(config).eval().requires_grad_(False)


def saved(model: torch.nn.Module, path: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """Write a model with a tokenizer, ours by default, and return the path."""
    model.save_pretrained(path)
    (tokenizer or word_tokenizer()).save_pretrained(path)
    return path


def ask(text: str) -> list[int]:
    """Token ids of a question, as the template writes it."""
    message = [{"role": "user", "content": text}]
    return list(word_tokenizer().apply_chat_template(message, add_generation_prompt=True, return_dict=False))


def padded(rows, side: str = "left", pad: int = 0) -> dict[str, torch.Tensor]:
    """Rows of token ids as a batch, as a model takes it."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = torch.as_tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


def along(intervention, direction):
    """What an intervention takes in place of a direction: for `add_mapped`, the map onto it."""
    return torch.outer(direction, direction) if intervention == "add_mapped" else direction


def rule_for(model, strength=0.3, seed=5, **changes):
    """A rule with random directions for all layers of these weights."""
    text = model.config.get_text_config(decoder=True)
    drawn = random_directions((text.num_hidden_layers, text.hidden_size), seed)
    drawn = [along(changes.get("intervention", "add"), direction) for direction in drawn]
    return Rule({"original": dict(enumerate(drawn))}, strength=strength, **changes)


def artifact_for(model, strength=0.3, seed=5, rules=None, **changes):
    """An artifact with a rule of random directions for all layers of these weights, called `pairs`, and others."""
    text = model.config.get_text_config(decoder=True)
    of_rule = {name: changes.pop(name) for name in [*changes] if name in Rule.__dataclass_fields__}
    return SteeringArtifact(
        rules={PAIRS: rule_for(model, strength, seed, **of_rule), **(rules or {})},
        fingerprints={"original": weights_fingerprint(model)},
        model="test",
        num_layers=text.num_hidden_layers,
        d_model=text.hidden_size,
        **changes,
    )


def linear_gate(vectors, record=None, **settings):
    """A fitted linear gate with these vectors by layer, by default of threshold and bias 0."""
    known = GateRecord(0.0, auroc=1.0, positive=(1, 1), negative=(0, 1), numbers={"bias": 0.0})
    return FittedGate(GateSettings("linear", **settings), {"original": GateState(vectors, record or known)})
