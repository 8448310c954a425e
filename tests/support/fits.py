"""Fits of tiny models: in this process, by hand, and by `sa fit` in processes of their own."""

import json
from functools import partial

import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from sa_lightning.callbacks import ExtractionCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import read_demonstrations
from support.command import sa
from support.models import word_tokenizer


def numbered(*args, **settings) -> ExtractionCallback:
    """An ExtractionCallback whose strength is a number: models of twenty words know none of our harmless prompts."""
    direction = settings.get("direction", args[0] if args else "principal")
    known = {"unit": "state", "sinks": None} | ({} if direction == "none" else {"strength": 0.12})
    return ExtractionCallback(*args, **known | settings)


def fit(target, demonstrations, output, *callbacks, epochs=1, batch_size=3, **data):
    module = CausalLMModule(str(target))
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=output,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), batch_size=batch_size, **data))
    return module


def by_hand(model, demonstrations):
    """Read the last-token states one conversation at a time, through `output_hidden_states`."""
    tokenizer, sides = word_tokenizer(), {"safe": [], "unsafe": []}
    for pair in read_demonstrations(demonstrations)[0]:
        for side, rows in sides.items():
            text = tokenizer.apply_chat_template(pair.messages(side), tokenize=False, continue_final_message=True)
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
            raw = []
            keep = partial(lambda raw, _module, _inputs, output: raw.append(output[0, -1]), raw)
            hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
            model(ids)
            for hook in hooks:
                hook.remove()
            rows.append(torch.stack(raw))
    return torch.stack(sides["safe"]), torch.stack(sides["unsafe"])


def sa_fit(directory, checkpoints, demonstrations, *arguments):
    """Run `sa fit` in processes of its own; its directions, and how many processes it says there were."""
    output = directory / "out"
    done = sa(
        *("fit", "--model.target", checkpoints / "base", "--data.demonstrations", demonstrations),
        *("--data.batch_size", "3", "--steering.strength", "0.12", "--output", output),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *arguments),
    )
    assert done.returncode == 0, done.stderr
    processes = json.loads((output / "fit.json").read_text())["processes"]
    return load_file(output / "artifact" / "steering.safetensors"), processes
