"""A gate costs the first token less than the second prefill by which SCANS's own code decides and steers.

    python tests/benchmarks/gated_first_token_before_two_prefills.py [--repeats R] [--tokens 64 256 1024] [--rows 1 8]

Prints one JSON line, and a table in Markdown. The time to the first token of prompts of 64, 256 and 1024 tokens, one
row and eight, on a random Llama that is made from its config: 6 layers of 512, and 1024 words, so that the output head
has about the share of the whole that it has in a model of 7 billion. The arms:

- `plain`: `generate` with one new token; `plain again` shows how much of a ratio is noise.
- `gated`: the same while a `TransitionGate` decides, as `steer` sets it (`steering.conditional`): the prompt once, the
  appended token, and the last token of the prompt once more.
- `two prefills`: what SCANS's code does, written anew from what it was read to do: the prompt with the appended token
  and `output_hidden_states`, no cache kept, cosines layer by layer; then `generate` on the prompt, steered.
- `two prefills, frugal`: the same without logits of all tokens, and the states read by hooks where they are needed.

All arms that steer add the same vectors, with the sign that each row's gate gives, from the last token of the prompt
on, so that they must write the same tokens, which is checked. The arms take turns in one process, the order turned by
one each round, and each is compared with the plain reply of its own round. On a machine that is busy, threads wait for
one another at every small product: nothing measured there says anything.
"""

import argparse
import json
import statistics
import time
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from random_llama import versions
from torch.nn.functional import cosine_similarity
from transformers import LlamaConfig, LlamaForCausalLM

from sa_lightning.steering import Component, Policy, Step, TransitionGate, conditional, random_directions

SHAPE = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}
WORDS, SURE, STRENGTH = 1024, 7, 4.0
READ, STEERED = (2, 3, 4, 5), (2, 3)


def random_model(device: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, max_position_embeddings=2048, tie_word_embeddings=False, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, **SHAPE,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False).to(device)


def first_token(model, ids):
    mask = torch.ones_like(ids)
    return model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=1)[:, -1].cpu()


class TwoPrefills:
    """Decide in a forward over prompt and appended token, then generate from the prompt alone, steered."""

    def __init__(self, model, reference, vectors, threshold: float, frugal: bool) -> None:
        self.model, self.reference, self.vectors, self.threshold = model, reference, vectors, threshold
        self.frugal = frugal

    def states(self, ids):
        """Of the layers that are read, at the last token of the prompt and at the appended one, (rows, 2, d_model)."""
        both = torch.cat([ids, ids.new_full((len(ids), 1), SURE)], 1)
        layers = self.model.model.layers
        if not self.frugal:
            output = self.model(both, output_hidden_states=True, use_cache=False)
            return [output.hidden_states[layer + 1][:, -2:] for layer in READ]
        found = {}
        with ExitStack() as stack:
            for layer in READ:

                def keep(_module, _args, output, layer=layer):
                    found[layer] = (output if torch.is_tensor(output) else output[0])[:, -2:].clone()

                stack.callback(layers[layer].register_forward_hook(keep).remove)
            self.model.model(both, use_cache=False)
        return [found[layer] for layer in READ]

    def scores(self, ids):
        with torch.no_grad():
            cosines = [
                cosine_similarity(state[:, 0] - state[:, 1], known[None], dim=-1).nan_to_num()
                for state, known in zip(self.states(ids), self.reference, strict=True)
            ]
        return torch.stack(cosines).mean(0)

    def __call__(self, ids):
        signs = torch.where(self.scores(ids) >= self.threshold, 1.0, -1.0)[:, None]
        with ExitStack() as stack:
            for layer in STEERED:

                def add(_module, _args, output, move=signs * STRENGTH * self.vectors[layer]):
                    hidden = output if torch.is_tensor(output) else output[0]
                    hidden[:, -1] += move
                    return output

                stack.callback(self.model.model.layers[layer].register_forward_hook(add).remove)
            return first_token(self.model, ids)


@contextmanager
def gated(model, reference, vectors, threshold: float):
    """Steer as `steer` does with an artifact that has a gate."""
    layers = model.model.layers
    steps = [(layers[i], Step("add_absolute", vectors[i], STRENGTH, model.device)) for i in STEERED]
    component = Component(TransitionGate(READ, reference), Policy.threshold(threshold), steps)
    with conditional(model, model.model, layers, [component], [SURE]):
        yield


def compare(model, rows: int, tokens: int, repeats: int) -> dict:
    """Return seconds to the first token of each arm, and of plain; every arm that steers writes the same."""
    generator = torch.Generator().manual_seed(rows * tokens)
    device, layers, width = model.device, SHAPE["num_hidden_layers"], SHAPE["hidden_size"]
    ids = torch.randint(8, WORDS, (rows, tokens), generator=generator).to(device)
    vectors = random_directions((layers, width), seed=0).to(device)
    reference = random_directions((layers, width), seed=1)[list(READ)].to(device)
    # Half of the rows on each side, and no row on the threshold.
    scores = TwoPrefills(model, reference, vectors, 0.0, False).scores(ids).sort().values.tolist()
    threshold = scores[0] - 1e-3 if rows == 1 else (scores[rows // 2 - 1] + scores[rows // 2]) / 2
    twice = partial(TwoPrefills, model, reference, vectors, threshold)
    plain, prepared = partial(first_token, model), partial(gated, model, reference, vectors, threshold)
    arms = {
        "plain": (nullcontext, plain),
        "plain again": (nullcontext, plain),
        "gated": (prepared, plain),
        "two prefills": (nullcontext, twice(frugal=False)),
        "two prefills, frugal": (nullcontext, twice(frugal=True)),
    }

    def run(name: str) -> tuple[float, torch.Tensor]:
        around, work = arms[name]
        with around():  # hooks are set before the clock starts
            began = time.perf_counter()
            written = work(ids)  # on the CPU at the end, so that a GPU has finished
            return time.perf_counter() - began, written

    written = {name: run(name)[1] for name in arms}
    steered = [written[name] for name in ("gated", "two prefills", "two prefills, frugal")]
    assert all(torch.equal(one, steered[0]) for one in steered)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats):
        turn = repeat % len(arms)
        for name in [*arms][turn:] + [*arms][:turn]:
            seconds[name].append(run(name)[0])
    found = {}
    for name, took in seconds.items():
        ratios = [own / bare for own, bare in zip(took, seconds["plain"], strict=True)]
        low, middle, high = (round(float(value), 3) for value in np.percentile(ratios, [25, 50, 75]))
        found[name] = {"seconds": round(statistics.median(took), 4), "of plain": middle, "quartiles": [low, high]}
    found["rows changed by steering"] = int((written["gated"] != written["plain"]).sum())
    return found


def table(measured: dict[str, dict]) -> str:
    """The ratios in Markdown."""
    arms = [name for name in next(iter(measured.values())) if name != "rows changed by steering"]
    lines = [f"| time to the first token, of plain | {' | '.join(measured)} |", "|---" * (len(measured) + 1) + "|"]
    for name in arms:
        cells = [
            f"{found[name]['of plain']:.2f} ({1000 * found[name]['seconds']:.0f} ms)" for found in measured.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    settings = parser.parse_args()
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    model = random_model(settings.device)
    measured = {
        f"{tokens} tokens, {rows} {'row' if rows == 1 else 'rows'}": compare(model, rows, tokens, settings.repeats)
        for rows in settings.rows
        for tokens in settings.tokens
    }
    line = {"claim": Path(__file__).stem, "shape": SHAPE, "runs": settings.repeats, "measured": measured}
    print(json.dumps({**line, "device": settings.device, "threads": torch.get_num_threads(), "versions": versions()}))
    print(table(measured))
