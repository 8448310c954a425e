"""An artifact as the file that lm-eval's model `steered` reads.

lm-eval reads nothing but a file of `torch.save`, so that is what is written: a zip with tensors, numbers and text,
which also loads under `weights_only=True`. It can say: add a vector to the output of a module, or set the coordinate
along a vector.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sa_lightning.errors import ArtifactError
from sa_lightning.export.formats import Spoken
from sa_lightning.models import locate_blocks
from sa_lightning.models.as_asked import auto_class


def hooks_of(
    spoken: Spoken, config: Any, source: str, blocks: str | None = None, trust_remote_code: bool = False
) -> dict[str, dict[str, Any]]:
    """Say what an artifact does in lm-eval's words.

    Replies are those of `steer` up to rounding: `steered` moves vectors into the data type of the model and computes
    there, we compute in float32. It also moves padding, which nothing attends to.

    Args:
        spoken: Steps, ablations and coordinates.
        config: Of the model.
        source: Of the model, for messages.
        blocks: Path of the decoder blocks, where they are not found by their number.
        trust_remote_code: Run Python code that comes with the model.

    Returns:
        Name of a module below the model's `base_model`, such as `layers.14`, to its entry.

    Raises:
        ArtifactError: If lm-eval would not load the model.
    """
    if auto_class(config) is not AutoModelForCausalLM:
        raise ArtifactError(
            f"lm-eval's `steered` loads language models alone, and {source} is a {config.model_type}, of which the "
            "language model is a part.\nIt would not be loaded there.\nUse `sa lm-eval run --model sa`."
        )
    with torch.device("meta"):  # names are all that is wanted
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    names = {id(module): name for name, module in network.base_model.named_modules()}
    found = locate_blocks(network, blocks)
    return {
        names[id(found.at(act.site)[act.layer])]: {  # type: ignore[arg-type]  # as `Rule.check` has it
            "steering_vector": act.direction.clone(),
            "steering_coefficient": float(act.length),
            "action": "add" if act.kind == "step" else "clamp",
            "bias": None,
            "head_index": None,
        }
        for act in spoken.acts
    }


def write_hooks(
    path: Path, spoken: Spoken, config: Any, source: str, blocks: str | None = None, trust_remote_code: bool = False
) -> None:
    """Write the file; other arguments and errors as of `hooks_of`."""
    torch.save(hooks_of(spoken, config, source, blocks, trust_remote_code), path)
