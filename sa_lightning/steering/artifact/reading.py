"""The files of an artifact, read and checked against one another."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sa_lightning.errors import ArtifactError

FORMAT_VERSION = 5  # the newest that is written
FILES = ("sa_config.json", "steering.safetensors", "README.md", "config.yaml")

#: Part ("" for the artifact itself) to `direction` or `gate` to set to layer to tensor.
Held = dict[str, dict[str, dict[str, dict[int, Tensor]]]]


def read_artifact(path_or_repo: str | Path, revision: str | None = None) -> tuple[Path, dict[str, Any], Held]:
    """Read an artifact from a directory or a Hub repository: where it lies, its sa_config.json, its tensors.

    Raises:
        ArtifactError: If it is missing, damaged, or of a newer format.
    """
    path = Path(path_or_repo)
    if not path.is_dir():
        try:
            path = Path(snapshot_download(str(path_or_repo), revision=revision, allow_patterns=list(FILES)))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"There is no artifact at {path_or_repo}, neither as a directory nor on the Hub.\n"
                "`sa fit` writes one to <output>/artifact.\n"
                "Check the path: `--artifact DIR/artifact`."
            ) from error
    try:
        config = json.loads((path / "sa_config.json").read_text())
        tensors = load_file(path / "steering.safetensors")
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise ArtifactError(
            f"{path} holds no complete artifact: {error}.\n"
            f"An artifact is a directory with {', '.join(FILES)}.\n"
            "Fit it again with `sa fit`, or check the path."
        ) from error
    if config.get("format_version") not in range(1, FORMAT_VERSION + 1):
        raise ArtifactError(
            f"{path} has format version {config.get('format_version')}, this one reads 1 to {FORMAT_VERSION}.\n"
            "Guessing at another format could steer the wrong way.\nUpgrade sa_lightning, or fit it again."
        )
    held: Held = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(?:parts\.([\w-]+)\.)?(\w+)\.layers\.(\d+)\.(direction|gate)", key)
        if found is not None:
            part, name, layer, what = found.groups()
            held.setdefault(part or "", {}).setdefault(what, {}).setdefault(name, {})[int(layer)] = tensor
    return path, config, held


def values_of(
    held: dict[str, dict[str, dict[int, Tensor]]], config: dict[str, Any], known: Collection[str], path: Path
) -> dict[str, Any]:
    """Return the attributes of an artifact, or of one of its parts.

    Args:
        held: Its tensors: `direction` or `gate` to set to layer to tensor.
        config: What sa_config.json says of it.
        known: Names of the attributes that are no tensors; other keys are left out.
        path: Where it lies, for errors.

    Raises:
        ArtifactError: If tensors and configuration do not say the same.
    """
    sets = config.get("fingerprints", {})
    directions = {name: held.get("direction", {}).get(name, {}) for name in sets} | held.get("direction", {})
    layers = {name: sorted(found) for name, found in directions.items()}
    if layers != config.get("layers") or layers.keys() != sets.keys():
        raise ArtifactError(
            f"The directions in {path} are {layers}, but its sa_config.json says {config.get('layers')} with "
            f"fingerprints of {sorted(sets)}.\n"
            "A direction without its weights, or weights without directions, cannot be applied.\n"
            "Fit it again with `sa fit`."
        )
    given = {key: value for key, value in config.items() if key in known}
    if given.get("gate") == "always":
        given["gate"] = None
    if isinstance(given.get("strength"), dict):  # JSON has only text as keys
        given["strength"] = _by_layer(given["strength"])
    for key in ("typical_norms", "dose"):
        given[key] = {name: _by_layer(norms) for name, norms in given.get(key, {}).items()}
    return {"directions": directions, "gates": held.get("gate", {}), **given}


def _by_layer(values: dict[str, Any]) -> dict[Any, Any]:
    """With layers as numbers again, where they are any."""
    return {int(key) if key.isdigit() else key: value for key, value in values.items()}
