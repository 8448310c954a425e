"""A steered model writes about as many tokens a second as it does unsteered, and more than when steered as peers do it.

    python tests/benchmarks/steered_decoding_near_unsteered.py DIR [--repeats R]

Prints one JSON line. DIR is where the model is made (`random_llama.py`). Greedy replies of 64 tokens to prompts of 64,
one row and eight; every block is steered. The arms take turns in one process, the order turned by one each round, and
each is compared with the unsteered reply of its own round; a second unsteered arm shows how much of a ratio is noise.
Hooks are set before the clock starts (`seconds to set`), except lm-eval's, which its `steered` model sets at each call.
Memory is that of one reply above the loaded weights.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lm_eval.models import hf_steered
from own_memory import measured
from random_llama import load, make, versions, words
from torch import nn

from sa_lightning.steered import steer
from sa_lightning.steering import SteeringArtifact, random_directions, weights_fingerprint

TOKENS = 64
STRENGTH = 0.1


class Chain(nn.Module):
    """What the Safety Arithmetic authors put behind each MLP, written anew from its description."""

    def __init__(self, direction: torch.Tensor) -> None:
        super().__init__()
        self.unsafe = -direction

    def forward(self, x):
        dtype, x = x.dtype, x.float()
        cosine = nn.functional.cosine_similarity(x, self.unsafe[None, None], dim=-1)[..., None]
        longer = 1 + torch.max(torch.tensor([0.0]).to(x.device), cosine)
        moved = nn.functional.normalize(x, dim=-1) - STRENGTH * longer * nn.functional.normalize(self.unsafe, dim=-1)
        return (nn.functional.normalize(moved, dim=-1) * x.norm(dim=-1, keepdim=True)).to(dtype)


@contextmanager
def reference_chain(model, directions):
    mlps = [block.mlp for block in model.model.layers]
    for block, direction in zip(model.model.layers, directions, strict=True):
        block.mlp = nn.Sequential(block.mlp, Chain(direction.to(model.device)))
    yield
    for block, mlp in zip(model.model.layers, mlps, strict=True):
        block.mlp = mlp


def lm_eval_steering(model, tokenizer, directions):
    """Return what sets lm-eval's hooks for one call: `add` of its own class, from a file of its own format."""
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        entry = {"steering_coefficient": STRENGTH, "action": "add", "bias": None, "head_index": None}
        torch.save({f"layers.{i}": {"steering_vector": v, **entry} for i, v in enumerate(directions)}, file.name)
        peer = hf_steered.SteeredModel(model, file.name, tokenizer=tokenizer, backend="causal")
    return lambda: hf_steered.steer(peer.model, peer.hook_to_steer)


def our_steering(model, directions, **changes):
    known = {"original": weights_fingerprint(model)}
    layers, width = directions.shape
    artifact = SteeringArtifact(
        {"original": dict(enumerate(directions))}, known, "random", layers, width, strength=STRENGTH, **changes
    )
    return partial(steer, model, artifact)


def compare(model, tokenizer, rows: int, arms: dict, repeats: int, device: str) -> tuple[dict, dict]:
    """Return tokens a second and memory of each arm, and what it wrote. An arm: around all replies, around each."""
    generator = np.random.default_rng(rows)
    prompts = [f"<bos> <user> {words(generator, TOKENS - 3)} <assistant>" for _ in range(rows)]
    batch = tokenizer(prompts, return_tensors="pt").to(device)

    def reply(each):
        with each():
            tokens = model.generate(**batch, do_sample=False, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
        return tokens.cpu()

    seconds, found, written = {name: [] for name in arms}, {}, {}
    for name, (around, each) in arms.items():
        began = time.perf_counter()
        with around():
            setting = time.perf_counter() - began
            written[name], memory = reply(each), measured(partial(reply, each), device)[1]
        memory.pop("seconds")
        found[name] = {"seconds to set": round(setting, 3), **{key: round(value, 1) for key, value in memory.items()}}
    for repeat in range(repeats):
        turn = repeat % len(arms)
        for name in [*arms][turn:] + [*arms][:turn]:
            around, each = arms[name]
            with around():
                began = time.perf_counter()
                reply(each)
                seconds[name].append(time.perf_counter() - began)
    for name, took in seconds.items():
        pairwise = [unsteered / own for unsteered, own in zip(seconds["unsteered"], took, strict=True)]
        low, middle, high = (round(value, 3) for value in np.percentile(pairwise, [25, 50, 75]))
        found[name]["tokens a second"] = round(rows * TOKENS / statistics.median(took), 1)
        found[name] |= {"of unsteered": middle, "quartiles": [low, high]}
    return found, written


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    settings = parser.parse_args()
    path = make(settings.root, settings.device)
    model, tokenizer = load(path, settings.device)
    directions = random_directions((model.config.num_hidden_layers, model.config.hidden_size), seed=0)
    arms = {
        "unsteered": (nullcontext, nullcontext),
        "unsteered again": (nullcontext, nullcontext),
        "ours, add_keep_norm": (our_steering(model, directions), nullcontext),
        "ours, add": (our_steering(model, directions, intervention="add"), nullcontext),
        "ours, as the reference": (
            our_steering(model, directions, intervention="add_keep_norm_adaptive", site="mlp"),
            nullcontext,
        ),
        "lm-eval, add": (nullcontext, lm_eval_steering(model, tokenizer, directions)),
        "reference chain": (partial(reference_chain, model, directions), nullcontext),
    }
    line = {"claim": Path(__file__).stem, "model": path.name, "ratios": {}, "runs": settings.repeats, "measured": {}}
    for rows in (1, 8):
        found, written = compare(model, tokenizer, rows, arms, settings.repeats, settings.device)
        assert torch.equal(written["unsteered"], written["unsteered again"])
        line["ratios"][f"tokens a second of unsteered, {rows} rows"] = {k: v["of unsteered"] for k, v in found.items()}
        line["measured"][f"{rows} rows"] = found
        line[f"rows changed, {rows} rows"] = {
            name: int((tokens != written["unsteered"]).any(-1).sum()) for name, tokens in written.items()
        }
        line[f"ours writes what the reference chain writes, {rows} rows"] = torch.equal(
            written["ours, as the reference"], written["reference chain"]
        )
    print(json.dumps({**line, "versions": versions("lm-eval")}))
