"""Chat templates after the manner of real families, in words of our own, over a tokenizer of some forty words."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from support.models import WORDS, torch

MARKS = ["<turn>", "<end>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "[THINK]", "[/THINK]"]
NAMES = ["user", "assistant", "system", "analysis", "final", "be", "kind", "today", "<think>", "</think>", "brief"]
VOCABULARY = ["<pad>", "<bos>", "<eos>", "<unk>", *MARKS, *WORDS, *NAMES]

_TURNS = "{% for m in messages %}<turn> {{ m['role'] }} {{ m['content'] }} <end> {% endfor %}"
_ASKS = "{% if add_generation_prompt %}<turn> assistant {% endif %}"
TEMPLATES = {
    # ChatML, with something that the system says where nobody says anything for it.
    "chatml": "{% if messages[0]['role'] != 'system' %}<turn> system be kind <end> {% endif %}" + _TURNS + _ASKS,
    # Llama 3: a BOS token, and the date of the day unless it is told one.
    "llama3": (
        "{{ bos_token }} <turn> system today {{ date_string if date_string is defined else strftime_now('%d %b %Y') }}"
        " <end> " + _TURNS + _ASKS
    ),
    # Gemma: no system role, and turns that alternate.
    "gemma": (
        "{{ bos_token }} {% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}" + _TURNS + _ASKS
    ),
    "deaf": "{% for m in messages if m['role'] != 'system' %}<turn> {{ m['role'] }} {{ m['content'] }} <end> "
    "{% endfor %}" + _ASKS,
    # Qwen 3: an empty thought where it is not to think.
    "qwen3": _TURNS
    + "{% if add_generation_prompt %}<turn> assistant "
    + "{% if enable_thinking is defined and not enable_thinking %}<think> </think> {% endif %}{% endif %}",
    # DeepSeek R1: the template opens the thought.
    "r1": _TURNS + "{% if add_generation_prompt %}<turn> assistant <think> {% endif %}",
    # Harmony: channels, whose marks are special tokens.
    "harmony": (
        "<|start|> system <|message|> today {{ strftime_now('%Y-%m-%d') }} "
        "{% if reasoning_effort is defined %}{{ reasoning_effort }} {% endif %}<|end|> "
        "{% for m in messages %}<|start|> {{ m['role'] }} "
        "{% if m['role'] == 'assistant' %}<|channel|> final {% endif %}<|message|> {{ m['content'] }} <|end|> "
        "{% endfor %}{% if add_generation_prompt %}<|start|> assistant {% endif %}"
    ),
    "bos": "{{ bos_token }} " + _TURNS + _ASKS,
    "bare": _TURNS + _ASKS,
}


def manner(name: str, begins: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer with such a template; `begins` says whether it puts a BOS token before every text."""
    backend = Tokenizer(WordLevel({word: n for n, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    if begins:
        backend.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer


def talker(seed: int = 0) -> LlamaForCausalLM:
    """A random Llama of these words."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def ids_of(text: str) -> list[int]:
    """Token ids of words."""
    return [VOCABULARY.index(word) for word in text.split()]
