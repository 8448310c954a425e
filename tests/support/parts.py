"""Parts fitted on prompts of several kinds, and what a model says that they steer."""

import torch
from lightning.pytorch import Trainer

from sa_lightning import SteeringArtifact
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import (
    GateSettings,
    PartSettings,
)
from support.fits import numbered
from support.models import ask


def fitted(checkpoints, prompts, output, *callbacks, epochs=1, **steering):
    callback = numbered(**steering)
    trainer = Trainer(
        **TRAINER_DEFAULTS, max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, default_root_dir=output,
        callbacks=[*callbacks, callback],
    )  # fmt: skip
    trainer.fit(CausalLMModule(str(checkpoints / "base")), datamodule=DemonstrationDataModule(str(prompts)))
    return SteeringArtifact.from_pretrained(output / "artifact")


def logits(model, texts):
    """First and following logits of a batch, padded on the left."""
    rows = [ask(text) for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return torch.stack(
        model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0,
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
