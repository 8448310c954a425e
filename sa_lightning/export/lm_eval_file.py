"""An artifact as the file that lm-eval's model `steered` reads.

lm-eval reads nothing but a file of `torch.save`, so that is what is written: a zip with tensors, numbers and text,
which also loads under `weights_only=True`. It can say: add a vector to the output of a module, or set the coordinate
along a vector. What it cannot say is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sa_lightning.errors import ArtifactError, NothingToDoError, SettingError
from sa_lightning.files import whole_file
from sa_lightning.models import load_config, locate_blocks
from sa_lightning.models.as_asked import auto_class
from sa_lightning.names import resolve_worlds
from sa_lightning.steering import SteeringArtifact

# Intervention to what `steered` calls it, with the coefficient of a strength; None where it cannot be said.
ACTIONS: dict[str, Callable[[float], tuple[str, float] | None]] = {
    "add_absolute": lambda strength: ("add", strength),
    "clamp": lambda strength: ("clamp", strength),
    "ablate": lambda strength: ("clamp", 0.0) if strength == 1 else None,
}


def steered_hooks(
    artifact: SteeringArtifact, weights: str = "original", *, model: str | None = None, trust_remote_code: bool = False
) -> dict[str, dict[str, Any]]:
    """Say what an artifact does in lm-eval's words.

    Replies are those of `steer` up to rounding: `steered` moves vectors into the data type of the model and computes
    there, we compute in float32. It also moves padding, which nothing attends to.

    Args:
        artifact: Whose intervention adds a step of a length of its own, sets a coordinate, or ablates all.
        weights: `original` or `edited`: the set of directions, for the weights that lm-eval will load.
        model: Directory or Hub id of the model, of which the config is read; the artifact's own if not set.
        trust_remote_code: Run Python code that comes with the model.

    Returns:
        Name of a module below the model's `base_model`, such as `layers.14`, to its entry.

    Raises:
        ArtifactError: If the format cannot express the artifact, or the artifact has no such set.
        NothingToDoError: If no layer is steered.
    """
    if weights not in artifact.fingerprints:
        raise ArtifactError(
            f"The artifact has no directions for `{weights}` weights, only for {', '.join(artifact.fingerprints)}.\n"
            "Directions belong to the weights they were fitted on.\nChoose one that is there: `--weights`."
        )
    if len(artifact.rules) != 1:
        raise ArtifactError(
            f"lm-eval's `steered` knows one set of directions, but this artifact has the rules "
            f"{', '.join(artifact.rules)}.\n"
            "Each acts by itself, on prompts of its own, and an approximation would not be what was measured.\n"
            "Use `sa lm-eval run --model sa`, which steers as measured."
        )
    (rule,) = artifact.rules.values()
    fixed = rule.intervention == "add" and rule.unit == "typical"  # one length for all tokens
    if rule.gate is not None or not (fixed or rule.intervention in ACTIONS):
        what = f"the gate `{rule.gate.settings.kind}`" if rule.gate else f"`{rule.intervention}`"
        unit = rule.how.unit_of(rule.unit)
        raise ArtifactError(
            f"lm-eval's `steered` cannot express {what}: it moves every token of every prompt, by the same vector or "
            f"to the same coordinate, and this artifact's strength is a {unit}.\n"
            "An approximation would not be what was measured.\n"
            "Use `sa lm-eval run --model sa`, which steers as measured, or fit with `--steering.intervention "
            "add_absolute`, `clamp` or `ablate`."
        )
    if rule.only_prompt:
        raise ArtifactError(
            "lm-eval's `steered` moves every token, but this artifact leaves the tokens of replies alone.\n"
            "It would be stronger than what was measured.\n"
            "Use `sa lm-eval run --model sa`, which steers as measured, or fit with `--steering.only_prompt false`."
        )
    if rule.sinks is not None:
        raise ArtifactError(
            f"lm-eval's `steered` moves every state, but this artifact leaves states over {rule.sinks:g} typical "
            "norms alone.\nThe first token of a prompt, on which all others lean, would be moved, too.\n"
            "Use `sa lm-eval run --model sa`, which steers as measured, or fit with `--steering.sinks null`."
        )
    source = resolve_worlds(model or artifact.model, 0, quiet=True)
    config: Any = load_config(source, trust_remote_code=trust_remote_code)
    text = config.get_text_config(decoder=True)
    artifact.check_model(text.num_hidden_layers, text.hidden_size, model or artifact.model)
    if auto_class(config) is not AutoModelForCausalLM:
        raise ArtifactError(
            f"lm-eval's `steered` loads language models alone, and {source} is a {config.model_type}, of which the "
            "language model is a part.\nIt would not be loaded there.\nUse `sa lm-eval run --model sa`."
        )
    with torch.device("meta"):  # names are all that is wanted
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    names = {id(module): name for name, module in network.base_model.named_modules()}
    modules = locate_blocks(network, artifact.blocks).at(rule.site)  # type: ignore[arg-type]  # as `Rule.check` has it
    hooks = {}
    for layer in rule.steered_layers(weights):
        strength = rule.strength[layer] if isinstance(rule.strength, dict) else rule.strength
        if rule.is_idle(strength):
            continue
        typical = rule.typical_norms[weights][layer] if fixed else 1.0
        action = ("add", strength * typical) if fixed else ACTIONS[rule.intervention](strength)
        if action is None:
            raise ArtifactError(
                f"lm-eval's `steered` cannot express `{rule.intervention}` with strength {strength} (layer {layer})"
                f", a {rule.how.unit}: it ablates all or nothing.\n"
                "An approximation would not be what was measured.\n"
                "Use `sa lm-eval run --model sa`, or an artifact of strength 1."
            )
        hooks[names[id(modules[layer])]] = {
            "steering_vector": rule.directions[weights][layer].detach().cpu().float().clone(),
            "steering_coefficient": float(action[1]),
            "action": action[0],
            "bias": None,
            "head_index": None,
        }
    if not hooks:
        raise NothingToDoError(
            "No layer of this artifact is steered: every strength is 0, or none has a direction.\n"
            "The file would change nothing.\nFit with another `--steering.strength`."
        )
    return hooks


def write_steered(
    artifact: SteeringArtifact,
    path: str | Path,
    weights: str = "original",
    *,
    model: str | None = None,
    trust_remote_code: bool = False,
) -> dict[str, dict[str, Any]]:
    """Write the file, which appears when it is complete; arguments and errors as of `steered_hooks`.

    Raises:
        SettingError: If the path exists, or does not end in .pt or .pth, by which lm-eval knows the format.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".pth"):
        raise SettingError(
            f"The file is to be called {path.name}, which does not end in .pt or .pth.\n"
            "lm-eval knows the format by that, and takes nothing else.\nWrite `--output steer.pt`."
        )
    if path.exists():
        raise SettingError(
            f"{path} exists already.\nResults are not written over by accident.\nChoose another `--output`."
        )
    hooks = steered_hooks(artifact, weights, model=model, trust_remote_code=trust_remote_code)
    with whole_file(path) as partial, partial.open("wb") as file:
        torch.save(hooks, file)
    return hooks
