"""SCANS, slowly: one prompt at a time, no cache, every state of every layer kept, the prompt run twice."""

import math

import torch


def states(model, ids):
    """What every block writes at every token of one sequence, (layers, pos, d_model), before any final norm."""
    found = []
    blocks = model.model.layers if hasattr(model, "model") else model.transformer.h
    handles = [
        block.register_forward_hook(
            lambda _module, _args, output: found.append(output if torch.is_tensor(output) else output[0])
        )
        for block in blocks
    ]
    with torch.no_grad():
        model(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([one[0].double() for one in found])


def vectors(model, harmful, harmless):
    """v_r of every layer: unit difference of the means at the last token of the template."""
    sides = [[states(model, ids)[:, -1] for ids in prompts] for prompts in (harmful, harmless)]
    means = [sum(side) / len(side) for side in sides]
    rows = []
    for difference in means[0] - means[1]:
        rows.append(difference / math.sqrt(sum(float(x) ** 2 for x in difference)))
    return torch.stack(rows)


def transition(model, ids, sure):
    """a_p − a_e of every layer."""
    whole = states(model, [*ids, *sure])
    return whole[:, len(ids) - 1] - whole[:, -1]


def reference(model, harmful, sure):
    """d_harm of every layer."""
    return sum(transition(model, ids, sure) for ids in harmful) / len(harmful)


def score(model, ids, sure, known, layers):
    """s_q: mean cosine over the layers of the gate."""
    moved, total = transition(model, ids, sure), 0.0
    for layer in layers:
        a, b = moved[layer], known[layer]
        lengths = float(a.norm() * b.norm())
        total += float(a @ b) / lengths if lengths else 0.0
    return total / len(layers)


def generate(model, ids, found, layers, alpha, sign, steps):
    """Greedy tokens and their logits, with sign · alpha · v added behind the layers from the last prompt token on."""
    blocks = model.model.layers if hasattr(model, "model") else model.transformer.h
    tokens, said = list(ids), []
    for _ in range(steps):
        handles = []
        for layer in layers:

            def hook(_module, _args, output, vector=found[layer]):
                hidden = output if torch.is_tensor(output) else output[0]
                hidden = hidden.clone()
                hidden[0, len(ids) - 1 :] += (sign * alpha * vector).to(hidden.dtype)
                return hidden if torch.is_tensor(output) else (hidden, *output[1:])

            handles.append(blocks[layer].register_forward_hook(hook))
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        for handle in handles:
            handle.remove()
        said.append(logits)
        tokens.append(int(logits.argmax()))
    return tokens[len(ids) :], torch.stack(said)
