"""Prompts, and SCANS fitted on a tiny model, for the tests of gates at work."""

import torch
from references import scans

from sa_lightning.models import locate_blocks
from sa_lightning.steering import Step
from sa_lightning.steering.directions.unpaired import refusal_directions
from sa_lightning.steering.gates.policy import Policy
from sa_lightning.steering.gates.transition import TransitionGate, transition_reference
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.conditional import conditional
from support.models import WORDS, gpt2, llama, mistral, word_tokenizer

STEPS, ALPHA = 6, 2.5


MODELS = {"llama": llama, "gpt2": gpt2, "mistral": mistral}


def prompts(count, seed):
    """Prompts of different length, as token ids of the template."""
    tokenizer, generator = word_tokenizer(), torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        picks = torch.randint(len(WORDS), (2 + number % 5,), generator=generator)
        message = [{"role": "user", "content": " ".join(WORDS[int(i)] for i in picks)}]
        found.append(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))
    return found


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


class Scans:
    """SCANS fitted by our functions on states that the reference has read, for one tiny model."""

    def __init__(self, name):
        self.model = MODELS[name]()
        self.sure = [word_tokenizer().convert_tokens_to_ids("yes")]
        self.harmful, self.harmless = prompts(6, 1), prompts(5, 2)
        self.layers = list(range(self.model.config.num_hidden_layers))
        self.steered, self.read = self.layers[:2], self.layers[1:]
        end, appended = (
            torch.stack([scans.states(self.model, [*ids, *more])[:, -1].float() for ids in self.harmful])
            for more in ([], self.sure)
        )
        safe = torch.stack([scans.states(self.model, ids)[:, -1].float() for ids in self.harmless])
        self.directions = refusal_directions(end, safe)
        self.reference = transition_reference(end, appended)
        self.asked = prompts(8, 3)
        self.expected = [scans.score(self.model, ids, self.sure, self.reference, self.read) for ids in self.asked]
        self.threshold = sorted(self.expected)[4] - 1e-4

    def steering(self, policy=None, strength=ALPHA, whole_prompt=False):
        blocks = locate_blocks(self.model)
        steps = [
            (blocks.layers[layer], Step("add_absolute", self.directions[layer].float(), strength, torch.device("cpu")))
            for layer in self.steered
        ]
        gate = TransitionGate(tuple(self.read), self.reference[self.read].float())
        policy = policy or Policy.threshold(self.threshold)
        component = Component(gate, policy, steps, whole_prompt=whole_prompt)
        return conditional(self.model, blocks.decoder, blocks.at("residual"), [component], self.sure, blocks.callers)

    def generate(self, rows, **more):
        return self.model.generate(
            **padded(rows), max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, pad_token_id=0,
            return_dict_in_generate=True, output_logits=True, **more,
        )  # fmt: skip
