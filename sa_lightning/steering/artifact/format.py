"""sa_config.json and the tensors beside it: how an artifact is written down, and read in all formats so far.

The rule of pairs stands at the top, all others behind `rules`. Formats 1 to 5 had `parts` in their place, a main
direction that could be empty, and other words for the sides of a gate: `_converted` makes the first of the second.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]  # `tqdm_class` is bare
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]  # its `PathLike` is bare
from torch import Tensor

from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.files import Json
from sa_lightning.outputs import is_sealed
from sa_lightning.schema import check_types
from sa_lightning.steering.artifact.card import sign
from sa_lightning.steering.artifact.rule import Rule
from sa_lightning.steering.gates.fitted import FittedGate
from sa_lightning.steering.intervention import INTERVENTIONS
from sa_lightning.steering.typed import norm_of

FORMAT_VERSION = 6
NEAR = 1e-3  # of 1: how long a unit vector may be
CHANGED_CARD = "has a README.md that was changed since it was written, or is of an older version"
FILES = ("sa_config.json", "steering.safetensors", "README.md", "config.yaml")
#: What the sides of a gate, and what became of prompts there, were called up to format 5.
WORDS = {"finds": "positive", "against": "negative", "spares": "exempt", "spared": "exempted"}
COUNTS = {"found": "positive", "others": "negative"}
FACTORS = {"found": "positive_factor", "others": "negative_factor"}

#: Rule to `direction` or `gate` to set to layer to tensor.
Held = dict[str, dict[str, dict[str, dict[int, Tensor]]]]


def written(shared: Json, rules: Mapping[str, Rule], main: str) -> Json:
    """Return the content of sa_config.json.

    Args:
        shared: All attributes of the artifact but its rules.
        rules: Of the artifact.
        main: Name of the rule that stands at the top.
    """
    shared = dict(shared)
    for name in (
        "quantization",
        "template_arguments",
        "system_prompt",
        "template_tail",
    ):  # left out where there are none
        if not shared[name]:
            del shared[name]
    told = {name: _written_rule(rule, shared["demonstrations"]) for name, rule in rules.items()}
    top = told.pop(main, {})
    return {"format_version": FORMAT_VERSION, **shared, **top, **({"rules": told} if told else {})}


def _written_rule(rule: Rule, demonstrations: Mapping[str, Any]) -> Json:
    values: Json = {item.name: getattr(rule, item.name) for item in fields(rule)}
    directions = values.pop("directions")
    return {
        **values,
        "gate": "always" if rule.gate is None else rule.gate.as_dict(),
        "dose_in_all": {name: sum(layers.values()) for name, layers in rule.dose.items()},
        "statistics": {name: _finite(found) for name, found in rule.statistics.items()},
        "layers": {name: sorted(layers) for name, layers in directions.items()},
        "sign": sign(rule, demonstrations),
        "strength_unit": rule.how.unit_of(rule.unit),
    }


def foreign_in_artifact(directory: Path) -> str | None:
    """Say what about a directory is not as an artifact was written, if anything is: it would be lost with it."""
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else {directory.name}
    if others := sorted(names - set(FILES)):
        return f"holds {others[0]}, which is no file of an artifact"
    if names and FILES[0] not in names:
        return f"has no {FILES[0]}, so it is no artifact"
    return CHANGED_CARD if has_changed_card(directory) else None


def has_changed_card(directory: Path) -> bool:
    """Say whether the card of an artifact is not as it was written."""
    card = directory / "README.md"
    return card.exists() and not is_sealed(card.read_bytes().decode(errors="replace"))


def read_artifact(path_or_repo: str | Path, main: str, revision: str | None = None) -> Json:
    """Read an artifact from a directory or a Hub repository: its attributes.

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
        config: Any = json.loads((path / "sa_config.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "steering.safetensors")
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        inner = path / "artifact"
        raise ArtifactError(
            f"{path} holds no complete artifact: {error}.\n"
            f"An artifact is a directory with {', '.join(FILES)}.\n"
            + (f"Give {inner}." if inner.is_dir() else "Fit it again with `sa fit`, or check the path.")
        ) from error
    found: Json = config if isinstance(config, dict) else {}  # pyright: ignore[reportUnknownVariableType]  # any JSON
    version = found.get("format_version")
    if isinstance(version, bool) or version not in range(1, FORMAT_VERSION + 1):
        raise ArtifactError(
            f"{path} has format version {version}, this one reads 1 to {FORMAT_VERSION}.\n"
            "Guessing at another format could steer the wrong way.\nUpgrade sa_lightning, or fit it again."
        )
    try:
        return _attributes(path, found if version == FORMAT_VERSION else _converted(found), tensors, main)
    except SettingError as error:
        raise ArtifactError(
            f"{path} asks for a gate that this version cannot make: {str(error).splitlines()[0]}\n"
            "Another one would not be what was measured.\nUpgrade sa_lightning, or fit it again with `sa fit`."
        ) from error
    except ArtifactError:
        raise
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, ArithmeticError, RecursionError) as error:
        raise ArtifactError(
            f"sa_config.json in {path} is not complete: {type(error).__name__}, {str(error).splitlines()[0]}.\n"
            "Without it the directions cannot be applied.\nFit it again with `sa fit`."
        ) from error


def _attributes(path: Path, config: Json, tensors: Mapping[str, Tensor], main: str) -> Json:
    """The attributes of an artifact, from what its files hold.

    Raises:
        ArtifactError: If the two do not say the same, or tensors are not those that were written.
        TypeError: If a value is of another type than its attribute; other errors where the shape is another.
    """
    if config["format_version"] == FORMAT_VERSION and config.get("tensors") != digests(tensors):
        raise ArtifactError(
            f"The tensors in {path} are not those that its sa_config.json has the digests of.\n"
            "They would steer otherwise than was measured.\nCopy the artifact again, or fit it again with `sa fit`."
        )
    wrong = sorted(name for name, tensor in tensors.items() if tensor.dtype != torch.float32)
    if wrong:
        raise ArtifactError(
            f"`{wrong[0]}` in {path} is of type {tensors[wrong[0]].dtype}, not float32, as all that `sa fit` writes.\n"
            "It was written by something else.\nFit it again with `sa fit`."
        )
    if "layers" in config and main in config.get("rules", {}):  # as a part could once be called
        raise ArtifactError(
            f"{path} has a rule called `{main}` beside that of its demonstrations, which has this name now.\n"
            "One would be taken for the other.\nFit it again, and call the rule something else."
        )
    held = _held(tensors, main)
    rules = ({main: config} if "layers" in config else {}) | config.get("rules", {})
    known = ("fingerprints", "model", "num_layers", "d_model", "blocks", "template", "template_arguments")
    known += ("quantization", "system_prompt", "template_tail", "demonstrations", "surgery", "control")
    known += ("command", "versions")
    missing = [name for name in known[:4] if name not in config]
    if missing:
        raise TypeError(f"it has no {missing[0]!r}")
    sets = config["fingerprints"]
    whole = config["format_version"] == FORMAT_VERSION
    read = {name: _read_rule(one, held.get(name, {}), sets, path, whole) for name, one in rules.items()}
    return {"rules": read, **{name: config[name] for name in known if name in config}}


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the SHA-256 of every tensor, its shape included, by name."""
    return {
        name: hashlib.sha256(
            repr(tuple(tensor.shape)).encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        ).hexdigest()
        for name, tensor in sorted(tensors.items())
    }


def _held(tensors: Mapping[str, Tensor], main: str) -> Held:
    held: Held = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(?:(?:parts|rules)\.([\w-]+)\.)?(\w+)\.layers\.(\d+)\.(direction|gate)", key)
        if found is not None:
            rule, name, layer, what = found.groups()
            held.setdefault(rule or main, {}).setdefault(what, {}).setdefault(name, {})[int(layer)] = tensor
    return held


def _read_rule(
    config: Mapping[str, Any],
    held: dict[str, dict[str, dict[int, Tensor]]],
    sets: Mapping[str, str],
    path: Path,
    whole: bool,
) -> Rule:
    """Return a rule, of what sa_config.json says of it and of its tensors.

    Raises:
        ArtifactError: If the two do not say the same.
        TypeError: If a setting is missing of a rule that is `whole`; older formats had fewer.
    """
    directions = {name: held.get("direction", {}).get(name, {}) for name in sets} | held.get("direction", {})
    layers = {name: sorted(found) for name, found in directions.items()}
    if layers != config.get("layers") or layers.keys() != sets.keys():
        raise ArtifactError(
            f"The directions in {path} are {layers}, but its sa_config.json says {config.get('layers')} with "
            f"fingerprints of {sorted(sets)}.\n"
            "A direction without its weights, or weights without directions, cannot be applied.\n"
            "Fit it again with `sa fit`."
        )
    names = {item.name for item in fields(Rule)} - {"directions", "gate"}
    given = {key: value for key, value in config.items() if key in names}
    if whole and (missing := sorted(names - given.keys())):
        raise TypeError(f"a rule has no {missing[0]!r}")
    if isinstance(given.get("strength"), dict):  # JSON has only text as keys
        given["strength"] = _by_layer(given["strength"])
    for key in ("typical_norms", "dose"):
        given[key] = {name: _by_layer(norms) for name, norms in given.get(key, {}).items()}
    check_types(Rule, given)
    rule = Rule(directions, **given)
    how = INTERVENTIONS.get(rule.intervention)
    for name, found in directions.items():
        long = [layer for layer, vector in found.items() if abs(float(norm_of(vector, None)) - 1) > NEAR]
        if how is not None and not how.sized and long:
            raise ArtifactError(
                f"Direction `{name}.layers.{long[0]}` in {path} has the length "
                f"{float(norm_of(found[long[0]], None)):.3g}, and `{rule.intervention}` takes unit vectors.\n"
                "A strength would be another.\nFit it again with `sa fit`."
            )
    gate = config.get("gate", "always")
    rule.gate = None if gate in ("always", None) else FittedGate.from_dict(gate, held.get("gate", {}))
    return rule


def _converted(config: Mapping[str, Any]) -> Json:
    """An artifact of format 1 to 5 in the words of format 6."""
    found = dict(config)
    parts = found.pop("parts", {})
    if parts and not any(found.get("layers", {}).values()):  # parts alone: the main directions were none
        for name in ("layers", "gate"):
            found.pop(name, None)
    for one in (found, *parts.values()):
        if isinstance(one.get("gate"), Mapping):
            gate = {FACTORS.get(name, WORDS.get(name, name)): value for name, value in one["gate"].items()}
            gate["kinds"] = {WORDS.get(side, side): kinds for side, kinds in gate.get("kinds", {}).items()}
            gate["sets"] = {name: _converted_record(record) for name, record in gate.get("sets", {}).items()}
            one["gate"] = gate
    return found | ({"rules": parts} if parts else {})


def _converted_record(record: Mapping[str, Any]) -> Json:
    found = {COUNTS.get(name, WORDS.get(name, name)): value for name, value in record.items()}
    found["scores"] = {COUNTS.get(side, side): scores for side, scores in found.get("scores", {}).items()}
    found["numbers"] = {name: found[name] for name in ("bias", "sign") if name in found}
    found["joined"] = {kind: _converted_record(one) for kind, one in found.get("joined", {}).items()}
    if found.get("exempt"):
        first = _converted_record(found["exempt"])
        first["exempted"] = {COUNTS.get(side, side): count for side, count in first.get("exempted", {}).items()}
        found["exempt"] = first
    return found


def _by_layer(values: Json) -> dict[int | str, Any]:
    """With layers as numbers again, where they are any."""
    return {int(key) if key.isdigit() else key: value for key, value in values.items()}


def _finite(statistics: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """JSON has no NaN and no infinity: what is not known, or unbounded, is null."""
    return {
        name: [value if value is not None and math.isfinite(value) else None for value in values]
        for name, values in statistics.items()
    }
