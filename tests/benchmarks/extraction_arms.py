"""One way to read the states after both answers of pairs, in a process of its own; prints one JSON line.

    python extraction_arms.py ARM MODEL PAIRS QUESTION DEVICE BATCH_TOKENS STATES

`extraction_near_the_bare_backbone.py` runs these, each with the Python that has it. Every arm starts from the same
texts and tokenises them itself. What it read goes to the file STATES: layers, and an array (2, pairs, layers, d_model).
"""

import importlib
import json
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from own_memory import measured
from random_llama import load, texts, versions

# Each arm returns a function that packs what was read, called when the clock has stopped, and, where a peer goes on
# to fit a direction, the seconds before that.


def ours(model, tokenizer, pairs, batch_tokens, share=None):
    """Every layer at the last token; what the members of a pair have in common runs once where that pays, or twice."""
    from sa_lightning.fitting.extraction import extract  # the peers' environments do not have it
    from sa_lightning.models import Passage

    rows = [[tokenizer(side).input_ids for side in pair] for pair in pairs]
    passages = [tuple(Passage(ids, (len(ids) - 1,)) for ids in row) for row in rows]
    states = extract(model, passages, batch_tokens=batch_tokens, share_prefixes=share)
    return lambda: (range(states.safe.shape[1]), torch.stack([states.safe, states.unsafe]).numpy()), None


@torch.inference_mode()
def floor(model, tokenizer, pairs, batch_tokens):
    """The bare decoder over the same sequences, sorted by length, in batches of so many tokens; nothing is read."""
    batches = [[]]
    for row in sorted((tokenizer(side).input_ids for pair in pairs for side in pair), key=len):
        if batches[-1] and (len(batches[-1]) + 1) * len(row) > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    for batch in batches:
        model.model(**tokenizer.pad({"input_ids": batch}, return_tensors="pt").to(model.device), use_cache=False)
    return None, None


@torch.inference_mode()
def hidden_states(model, tokenizer, pairs, _batch_tokens):
    """The causal model over batches of 32 as they come, all hidden states; last tokens are kept batch by batch."""
    sides, kept = [side for pair in pairs for side in pair], []
    for start in range(0, len(sides), 32):
        batch = tokenizer(sides[start : start + 32], padding=True, return_tensors="pt").to(model.device)
        found = model(**batch, output_hidden_states=True).hidden_states[1:]
        kept.append(at_last(found, batch["attention_mask"]).float().cpu())
    return lambda: (range(len(found)), torch.cat(kept).unflatten(0, (-1, 2)).transpose(0, 1).numpy()), None


@torch.inference_mode()
def every_token(model, tokenizer, pairs, _batch_tokens):
    """AISteer360's way, written anew: all states of all tokens stay in main memory until the end, side after side.

    Texts padded together to the longest of all, batches of 8 (its default), and a `torch.cat` for each layer.
    """
    batch = tokenizer([side for pair in pairs for side in pair], padding=True, return_tensors="pt").to(model.device)
    whole = []
    for side in (0, 1):
        ids, mask = batch["input_ids"][side::2], batch["attention_mask"][side::2]
        layers = [[] for _ in range(model.config.num_hidden_layers)]
        for start in range(0, len(ids), 8):
            rows = slice(start, start + 8)
            out = model(input_ids=ids[rows], attention_mask=mask[rows], output_hidden_states=True, use_cache=False)
            for layer, found in zip(layers, out.hidden_states[1:], strict=True):
                layer.append(found.cpu())
        whole.append(([torch.cat(layer) for layer in layers], mask.cpu()))
    states = torch.stack([at_last(layers, mask) for layers, mask in whole])
    return lambda: (range(states.shape[2]), states.float().numpy()), None


def at_last(layers, mask):
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(-1)
    return torch.stack([layer[torch.arange(len(mask), device=mask.device), last] for layer in layers], 1)


def steering_vectors(model, tokenizer, pairs, _batch_tokens, batch_size):
    """Its own call, with its default batch of 1 pair, or another."""
    module = importlib.import_module("steering_vectors.train_steering_vector")
    with watching(module, "extract_activations") as inside:
        module.train_steering_vector(model, tokenizer, pairs, read_token_index=-1, batch_size=batch_size)

    def pack():
        sides = [[torch.cat(rows) for _, rows in sorted(side.items())] for side in inside.result]
        return sorted(inside.result[0]), torch.stack([torch.stack(side, 1) for side in sides]).float().cpu().numpy()

    return pack, inside.seconds


def repeng(model, tokenizer, pairs, _batch_tokens):
    """Its own call, with its default batch of 32 texts."""
    from repeng import ControlModel, ControlVector, DatasetEntry, extract

    wrapped = ControlModel(model, range(model.config.num_hidden_layers))
    entries = [DatasetEntry(positive=first, negative=second) for first, second in pairs]
    with watching(extract, "batched_get_hiddens") as inside:
        ControlVector.train(wrapped, tokenizer, entries, method="pca_diff")
    wrapped.unwrap()

    def pack():
        sides = [[rows[side::2] for _, rows in sorted(inside.result.items())] for side in (0, 1)]
        return sorted(inside.result), np.stack([np.stack(side, 1) for side in sides])

    return pack, inside.seconds


@contextmanager
def watching(module, name):
    """Note the seconds inside a function of a peer, and what it returns."""
    function, noted = getattr(module, name), SimpleNamespace(seconds=0.0, result=None)

    def watched(*args, **kwargs):
        began = time.perf_counter()
        noted.result = function(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        noted.seconds = time.perf_counter() - began
        return noted.result

    setattr(module, name, watched)
    try:
        yield noted
    finally:
        setattr(module, name, function)


ARMS = {
    "ours": ours,
    "ours_unshared": partial(ours, share=False),
    "floor": floor,
    "hidden_states": hidden_states,
    "every_token": every_token,
    "steering_vectors": partial(steering_vectors, batch_size=1),
    "steering_vectors_16": partial(steering_vectors, batch_size=16),
    "repeng": repeng,
}
PEERS = {"steering_vectors": ("steering-vectors",), "steering_vectors_16": ("steering-vectors",), "repeng": ("repeng",)}

if __name__ == "__main__":
    name, path, count, question, device, batch_tokens, file = sys.argv[1:8]
    model, tokenizer = load(Path(path), device)
    pairs = texts(int(count), question)
    arm = partial(ARMS[name], model, tokenizer)
    arm(pairs[:2], int(batch_tokens))
    (pack, inside), found = measured(partial(arm, pairs, int(batch_tokens)), device)
    found["states_seconds"] = inside or found["seconds"]
    if pack is not None:
        layers, states = pack()
        np.savez(file, layers=list(layers), states=states)
    print(json.dumps({**found, "versions": versions(*PEERS.get(name, ()))}))
