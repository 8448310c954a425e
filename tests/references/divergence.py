"""How far steering moves a model's own greedy replies, the slow way."""

import torch

from sa_lightning import steer
from sa_lightning.steering import prompt_lengths

NEW_TOKENS = 24


def slow_kl(model, tokenizer, prompts, artifact, strength):
    """Mean KL over the tokens of greedy replies, prompt by prompt, without cache, batch or padding."""
    total, count = 0.0, 0
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        whole, length = ids, ids.shape[1]
        for _ in range(NEW_TOKENS):
            whole = torch.cat([whole, model(whole).logits[:, -1:].argmax(-1)], 1)
            if int(whole[0, -1]) == tokenizer.eos_token_id:
                break
        before = model(whole).logits[0, length - 1 : -1].double().log_softmax(-1)
        with steer(model, artifact, strength=strength), prompt_lengths([length]):
            after = model(whole).logits[0, length - 1 : -1].double().log_softmax(-1)
        total += float((before.exp() * (before - after)).sum())
        count += len(before)
    return total / count
