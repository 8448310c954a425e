"""A random Llama, a tokenizer of 32,000 words, and contrastive pairs with the lengths of real ones.

    python tests/benchmarks/random_llama.py DIR [cpu|cuda]

On the CPU 134 million parameters in float32, on a GPU the shape of Llama-2-7B in bfloat16; made once, from a seed, and
saved, so that peers in other environments load the same files. The words are random and mean nothing, so no text is
needed: only lengths are real. They follow quantiles of the test split of hh-rlhf `harmless-base` (the 2,303 pairs whose
sides begin alike), counted with the tokenizer of Llama 2, and drawn independently of each other.
"""

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>"]
WORDS = 32000
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %} <user> {{ m['content'] }}"
    "{% else %} <assistant> {{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} <assistant>{% endif %}"
)
SHAPES = {
    "cpu": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
    "cuda": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}

# Tokens at these percentiles. A question is the whole conversation up to the reply, or its last human turn alone.
PERCENTILES = [0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100]
Question = Literal["conversation", "turn"]
QUESTIONS: dict[Question, list[int]] = {
    "conversation": [5, 7, 10, 13, 19, 43, 70, 96, 123, 151, 194, 281, 362, 550, 865],
    "turn": [1, 1, 3, 5, 7, 9, 11, 12, 14, 17, 21, 28, 36, 54, 170],
}
CHOSEN = [1, 3, 6, 9, 13, 17, 22, 28, 35, 46, 63, 90, 122, 201, 274]
REJECTED = [1, 3, 6, 9, 15, 21, 28, 37, 47, 59, 77, 112, 148, 258, 574]


def make(root: Path, device: str) -> Path:
    """Make model and tokenizer below `root`, if they are not there."""
    path = root / f"random-llama-{device}"
    if (path / "tokenizer.json").exists():
        return path
    config = LlamaConfig(
        vocab_size=WORDS, max_position_embeddings=2048, tie_word_embeddings=False, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, **SHAPES[device],
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    model.save_pretrained(path)
    vocabulary = SPECIAL + [f"w{index}" for index in range(len(SPECIAL), WORDS)]
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(path)
    return path


def load(path: Path, device: str):
    """Load model and tokenizer; every weight has been looked at, so that it is in memory, not in a mapped file."""
    if device == "cpu":
        torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto").to(device).eval()
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return model, AutoTokenizer.from_pretrained(path)


def words(generator: np.random.Generator, count: int) -> str:
    return " ".join(f"w{index}" for index in generator.integers(len(SPECIAL), WORDS, count))


def texts(count: int, question: Question = "conversation", seed: int = 0) -> list[tuple[str, str]]:
    """Return the two sides of pairs as the chat template writes them; fewer pairs are the first of more."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        lengths = [
            round(np.interp(generator.uniform(0, 100), PERCENTILES, table))
            for table in (QUESTIONS[question], CHOSEN, REJECTED)
        ]
        asked, first, second = (words(generator, length) for length in lengths)
        pairs.append(tuple(f"<bos> <user> {asked} <assistant> {answer}" for answer in (first, second)))
    return pairs


def versions(*packages: str) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", *packages)},
    }


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cpu"))
