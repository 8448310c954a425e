"""Sharded bfloat16 checkpoints of the shapes of Llama, base and harm, made once: real sizes, random content.

    python tests/benchmarks/synthetic.py 0.1 DIR      0.1 or 1 billion parameters

Both sizes have the same largest tensor (16384 × 2048), so that memory can be compared. The harm delta has the size of
the Safety Arithmetic authors': 7e-5 against weights of 0.02, so that bfloat16 puts a fifth of all entries on the cut.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

LAYERS = {"0.1": (1, 4), "1": (18, 8)}  # blocks, shards
WIDTH, INNER, WORDS = 2048, 5632, 16384


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (WORDS, WIDTH)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        found |= {f"{block}.self_attn.{part}_proj.weight": (WIDTH, WIDTH) for part in "qkvo"}
        found |= {f"{block}.mlp.{part}_proj.weight": (INNER, WIDTH) for part in ("gate", "up")}
        found[f"{block}.mlp.down_proj.weight"] = (WIDTH, INNER)
        found |= {f"{block}.{norm}_layernorm.weight": (WIDTH,) for norm in ("input", "post_attention")}
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (WORDS, WIDTH)}


def make(size: str, root: Path) -> tuple[Path, Path]:
    """Make base and harm below `root`, if they are not there."""
    layers, shards = LAYERS[size]
    paths = root / f"base-{size}b", root / f"harm-{size}b"
    for path, move in zip(paths, (0.0, 7e-5), strict=True):
        if (path / "config.json").exists():
            continue
        path.mkdir(parents=True, exist_ok=True)
        weights, steps = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
        named = shapes(layers)
        total = sum(torch.Size(shape).numel() for shape in named.values())
        placed, held, seen = {}, {}, 0
        for number, (name, shape) in enumerate(named.items(), 1):
            tensor = torch.randn(shape, generator=weights) * 0.02
            held[name] = (tensor + move * torch.randn(shape, generator=steps) if move else tensor).bfloat16()
            seen += tensor.numel()
            shard = len(set(placed.values())) + 1
            if seen * shards >= total * shard or number == len(named):
                file = f"model-{shard:05}-of-{shards:05}.safetensors"
                save_file(held, path / file, metadata={"format": "pt"})
                placed |= dict.fromkeys(held, file)
                held = {}
        index = {"metadata": {"total_size": 2 * total}, "weight_map": placed}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
        config = {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "vocab_size": WORDS,
            "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": 16,
            "num_key_value_heads": 16, "tie_word_embeddings": False, "dtype": "bfloat16", "rms_norm_eps": 1e-5,
            "hidden_act": "silu", "max_position_embeddings": 2048,
        }  # fmt: skip
        (path / "config.json").write_text(json.dumps(config))
    return paths


if __name__ == "__main__":
    print(*make(sys.argv[1], Path(sys.argv[2])))
