"""Self-CD, slowly: one prompt at a time, no cache, both whole texts run anew for every token."""

import torch


def logits(model, ids):
    """Logits of the token that follows, in float64."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()


def generate(model, plain, instructed, ratio, steps):
    """Greedy tokens, and the contrasted logits that each was chosen from."""
    chosen, said = [], []
    for _ in range(steps):
        without, with_ = logits(model, [*plain, *chosen]), logits(model, [*instructed, *chosen])
        mixed = torch.tensor([float(b) - ratio * (float(b) - float(a)) for a, b in zip(without, with_, strict=True)])
        said.append(mixed)
        chosen.append(max(range(len(mixed)), key=lambda token: float(mixed[token])))
    return chosen, torch.stack(said)
