"""Parts fitted on prompts of several kinds, and what a model says that they steer."""

import torch

from sa_lightning.steering import GateSettings, PartSettings
from support.models import ask, padded


def logits(model, texts):
    """First and following logits of a batch, padded on the left."""
    rows = [ask(text) for text in texts]
    return torch.stack(
        model.generate(
            **padded(rows), max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0,
            return_dict_in_generate=True, output_logits=True,
        ).logits
    )  # fmt: skip


SPARE = PartSettings(
    "false_refusal",
    gate=GateSettings("linear", finds=["contrast"], against=["harmless"], spares=["harmful", "wrapped"], recall=0.8,
                      layers=[0, 1], others=0.0),
)  # fmt: skip
REFUSE = PartSettings(
    "refusal", intervention="add", strength=0.3, gate=GateSettings("linear", recall=0.8, layers=[0, 1], others=0.0)
)
