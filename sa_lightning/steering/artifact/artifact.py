"""SteeringArtifact: directions, how they act, and where they come from, as one directory.

    sa_config.json        everything but the tensors, `format_version` first
    steering.safetensors  `{set}.layers.{i}.direction`, and `.gate` where there is one; a set is `original` or `edited`
                          weights; of a part, the same behind `parts.{name}.`
    README.md             a model card with the numbers
    config.yaml           the configuration that made it

No pickle is read or written.
"""

import hashlib
import json
import math
import re
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file
from torch import Tensor

from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.files import whole_directory, write_whole
from sa_lightning.steering.artifact.card import card, sign
from sa_lightning.steering.artifact.reading import read_artifact, values_of
from sa_lightning.steering.directions.controls import in_words, random_directions
from sa_lightning.steering.gates.fitting import FittedGate, rebuilt, vector_shape
from sa_lightning.steering.gates.gate import Gate
from sa_lightning.steering.gates.policy import Policy
from sa_lightning.steering.gates.settings import GateSettings, Kind
from sa_lightning.steering.intervention import INTERVENTIONS, check_strength, times

UNITS = ("state", "typical")
SIZED = ("match", "add_mapped")  # interventions whose directions have a length of their own


@dataclass
class SteeringArtifact:
    """Directions for one model, with everything needed to apply them again.

    Attributes:
        directions: Set name (`original`, `edited`: the weights they were fitted on) to layer to unit
            vector of shape (d_model,), float32, pointing towards the safe side.
        fingerprints: Set name to the fingerprint of those weights (`weights_fingerprint`).
        model: Directory or Hub id of the target model.
        num_layers: Number of decoder blocks of the target.
        d_model: Width of its residual stream.
        blocks: Path of the decoder blocks, where they are not found by their number.
        site: Where the directions act: `residual`, `mlp` or `attention` output of a block.
        intervention: A name in `INTERVENTIONS`.
        strength: In the unit of the intervention: a number for all layers, or one per layer, of which those not
            named are not steered.
        unit: What a relative strength (`add` interventions) is a fraction of: the `typical` norm at the layer, or the
            norm of each `state`, as artifacts of format 3 and before have it.
        sinks: States longer than so many typical norms are left as they are: attention sinks; None leaves none.
        typical_norms: Set name to layer to the median norm of ordinary states where the directions act.
        dose: Set name to layer to the mean length of the step over ordinary states, as a fraction of the typical norm
            of the residual stream behind that layer, whatever the site, intervention and unit.
        gate: Which prompts are steered: the settings of a gate (`GateSettings`), with `ids` of the appended word and
            what was fitted per set; None steers all alike.
        gates: Set name to layer to vector of the gate, of shape (d_model,), or (gates, d_model) where several are one,
            float32; none without one.
        parts: Name to one more artifact of the same model, which acts together with this one, each with a gate of its
            own. Parts have none themselves.
        only_prompt: Whether it acts on no token of the reply: on the last token of the prompt that its gate has read,
            or, where the gate has `whole_prompt` or there is none, on all of the prompt.
        template: How conversations were written (`chat`, `plain`, …).
        template_arguments: Handed to the template, such as `{"enable_thinking": False}`.
        template_tail: What the template writes between the words of the user and the reply; None if that is not known.
        demonstrations: File name, SHA-256, number of pairs, how many were truncated.
        extraction: How the directions were found: direction, position, tokens, capture_site.
        surgery: Inputs and settings of the parameter edit that belongs to the set `edited`, or None.
        statistics: Per set: the layers that were read and, for each, norms and separability (`fit_pairs`).
        control: Kind and seed of what stands in place of fitted directions (`controls`), or None.
        command: What was typed.
        versions: Of the packages that made it.
    """

    directions: dict[str, dict[int, Tensor]]
    fingerprints: dict[str, str]
    model: str
    num_layers: int
    d_model: int
    blocks: str | None = None
    site: str = "residual"
    intervention: str = "add_keep_norm"
    strength: float | dict[int, float] = 0.1
    unit: str = "state"
    sinks: float | None = None
    typical_norms: dict[str, dict[int, float]] = field(default_factory=dict)
    dose: dict[str, dict[int, float]] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    only_prompt: bool = False
    template: str = "chat"
    template_arguments: dict[str, Any] = field(default_factory=dict)
    template_tail: str | None = None
    demonstrations: dict[str, Any] = field(default_factory=dict)
    extraction: dict[str, Any] = field(default_factory=dict)
    surgery: dict[str, Any] | None = None
    statistics: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    control: dict[str, Any] | None = None
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    gates: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    parts: dict[str, "SteeringArtifact"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what could not be applied."""
        kind = "always" if self.gate is None else self.gate.get("kind")
        if self.intervention not in INTERVENTIONS or kind not in get_args(Kind):
            raise ArtifactError(
                f"This artifact asks for intervention `{self.intervention}` and gate `{kind}`, but this version "
                f"knows {', '.join(INTERVENTIONS)} and {', '.join(get_args(Kind))}.\n"
                "Applying something else would not be what was measured.\n"
                "Upgrade sa_lightning, or fit the artifact again."
            )
        try:
            check_strength(self.strength, self.intervention)
        except (SettingError, TypeError) as error:
            raise ArtifactError(
                f"This artifact asks for strength {self.strength!r}, which `{self.intervention}` cannot take: "
                f"{str(error).splitlines()[0]}\nIt could not be applied.\nFit the artifact again with `sa fit`."
            ) from error
        self._check_norms()
        if self.gate is not None:
            self._check_gate()
        for name, part in self.parts.items():
            if part.parts or part.fingerprints != self.fingerprints or not re.fullmatch(r"[\w-]+", name):
                raise ArtifactError(
                    f"The part `{name}` of this artifact has parts {sorted(part.parts)}, and was fitted on "
                    f"{part.fingerprints}, not on {self.fingerprints}.\n"
                    "Parts act together on the same weights, and their names are keys of tensors.\n"
                    "Fit them together with `sa fit`, and name them by letters and digits."
                )
        shape = (self.d_model,) * (2 if self.intervention == "add_mapped" else 1)
        for name, layers in self.directions.items():
            for layer, direction in layers.items():
                if not 0 <= layer < self.num_layers or tuple(direction.shape) != shape:
                    raise ArtifactError(
                        f"Direction `{name}.layers.{layer}` has shape {tuple(direction.shape)}, but the model has "
                        f"{self.num_layers} layers and d_model {self.d_model}.\n"
                        "Each direction is added to the stream behind one layer.\n"
                        "Fit the artifact again with `sa fit`."
                    )
                if not bool(torch.isfinite(direction).all()):
                    raise ArtifactError(
                        f"Direction `{name}.layers.{layer}` has values that are not finite.\n"
                        "They would break every reply.\nFit the artifact again with `sa fit`."
                    )

    @property
    def needs_norms(self) -> bool:
        """Whether steering looks at typical norms: for the unit of the strength, or to leave sinks alone."""
        return self.sinks is not None or (self.unit == "typical" and INTERVENTIONS[self.intervention].relative)

    def _check_norms(self) -> None:
        """Refuse a unit that nobody knows, and typical norms that are needed and missing, or are none."""
        if self.unit not in UNITS or not (self.sinks is None or self.sinks >= 1):
            raise ArtifactError(
                f"This artifact has strengths in the unit `{self.unit}` and sinks from {self.sinks} typical norms on; "
                f"there are the units {', '.join(UNITS)}, and sinks from 1 on.\n"
                "Another step would not be what was measured.\nUpgrade sa_lightning, or fit the artifact again."
            )
        wrong = [
            f"{name}.{layer}"
            for name, layers in self.directions.items()
            for layer in layers
            if self.needs_norms and not 0 < self.typical_norms.get(name, {}).get(layer, 0) < math.inf
        ]
        if wrong:
            raise ArtifactError(
                f"This artifact has no typical norm for {len(wrong)} of its layers, such as {wrong[0]}.\n"
                "Its strength is a fraction of them, or sinks are known by them.\nFit the artifact again with `sa fit`."
            )

    def norms_at(self, name: str, layer: int) -> tuple[float | None, float | None]:
        """Return what a `Step` at a layer takes: the typical norm its strength is a fraction of, and the limit.

        Args:
            name: Of the set.
            layer: Which layer.
        """
        if not self.needs_norms:
            return None, None
        typical = self.typical_norms[name][layer]
        fraction = typical if self.unit == "typical" and INTERVENTIONS[self.intervention].relative else None
        return fraction, None if self.sinks is None else self.sinks * typical

    def _check_gate(self) -> None:
        """Refuse a gate that lacks what was fitted, or whose factors the intervention cannot take."""
        assert self.gate is not None
        known = self.gate.get("sets", {})
        shapes = {(name, tuple(v.shape)) for name, vectors in self.gates.items() for v in vectors.values()}
        layers = {layer for vectors in self.gates.values() for layer in vectors}
        if (
            known.keys() != self.gates.keys()
            or shapes != {(name, vector_shape(record, self.d_model)) for name, record in known.items()}
            or not layers <= set(range(self.num_layers))
        ):
            raise ArtifactError(
                f"The gate was fitted for {sorted(known)}, but there are vectors for {sorted(self.gates)}, of shapes "
                f"{sorted(shapes)} (d_model {self.d_model}).\n"
                "Without them no prompt can be told from another.\nFit the artifact again with `sa fit`."
            )
        try:
            self.gate_settings.check(self.strength, self.intervention)
        except SettingError as error:
            raise ArtifactError(str(error)) from error

    @property
    def gate_settings(self) -> GateSettings:
        """The settings of the gate."""
        names = {item.name for item in fields(GateSettings)}
        return GateSettings(**{name: value for name, value in (self.gate or {}).items() if name in names})

    @property
    def _format_version(self) -> int:
        """The lowest that a reader has to know not to steer otherwise without a word."""
        if any(one.only_prompt and one.whole_prompt for one in self.together.values()):
            return 5
        if any(one.needs_norms for one in self.together.values()):
            return 4
        if any(one.gate_settings.join for one in self.together.values()):
            return 3
        return 2 if self.parts or self.only_prompt else 1

    @property
    def whole_prompt(self) -> bool:
        """Whether all tokens of a prompt are steered, and not the last one alone."""
        return self.gate is None or self.gate_settings.whole_prompt

    def finds(self) -> str:
        """The kinds of prompts that the gate finds, in words."""
        return (" or " if self.gate_settings.join == "any" else " and ").join(self.gate_kinds("finds"))

    def gate_kinds(self, side: str) -> list[str]:
        """The kinds of prompts that a gate `finds`, is told `against`, or `spares`, as far as there were such."""
        told = (self.gate or {}).get("kinds")
        return list(getattr(self.gate_settings, side) if told is None else told.get(side, ()))

    def gate_of(self, name: str) -> tuple[Gate, Policy]:
        """Return the gate that was fitted on the weights of a set, and what is done at its scores.

        Without a gate, one that finds every prompt.

        Raises:
            ArtifactError: If the gate was not fitted on these weights.
        """
        if self.gate is None:
            return rebuilt(GateSettings(), FittedGate({}))
        if name not in self.gates:
            raise ArtifactError(
                f"The artifact has no gate for `{name}` weights, only for {', '.join(self.gates) or 'none'}.\n"
                "A gate belongs to the weights it was fitted on.\nFit the artifact again with `sa fit`."
            )
        return rebuilt(self.gate_settings, FittedGate(self.gates[name], self.gate["sets"][name]))

    @property
    def together(self) -> dict[str, "SteeringArtifact"]:
        """All that acts: this artifact, under the name of nothing, and its parts."""
        return {"": self, **self.parts}

    def steered_layers(self, name: str) -> list[int]:
        """Return the layers that are steered on the weights of a set: those with a direction and a strength."""
        layers = self.directions.get(name, {})
        return sorted(layer for layer in layers if not isinstance(self.strength, dict) or layer in self.strength)

    def randomised(self, seed: int) -> "SteeringArtifact":
        """Return the same artifact with random unit directions: the control of equal strength.

        Each part has draws of its own, which no other part, and no other seed, has.
        """
        replaced = {}
        for name, layers in self.directions.items():
            shape = next((tuple(direction.shape) for direction in layers.values()), (self.d_model,))
            drawn = random_directions((self.num_layers, math.prod(shape)), seed).view(self.num_layers, *shape)
            one = self.extraction.get("of_layer") is not None  # one direction for all layers
            # What is no unit vector is as long as what it takes the place of.
            lengths = {x: d.norm().cpu() if self.intervention in SIZED else 1.0 for x, d in layers.items()}
            replaced[name] = {layer: drawn[0 if one else layer] * lengths[layer] for layer in layers}
        control = {"kind": "random", "seed": seed}
        parts = {name: part.randomised(_seed_of(seed, name)) for name, part in self.parts.items()}
        return SteeringArtifact(**{**_shallow(self), "directions": replaced, "control": control, "parts": parts})

    def without_gates(self) -> "SteeringArtifact":
        """Return the same artifact steering every prompt, as one that its gates find: strengths are times `found`.

        Raises:
            ArtifactError: If it, or a part, acts where the prompt ends alone, which takes a gate.
        """
        acting = self.together.items()
        alone = [name or "the artifact itself" for name, one in acting if one.only_prompt and not one.whole_prompt]
        if alone:
            raise ArtifactError(
                f"{', '.join(alone)} acts where a prompt ends alone, where a gate has read it.\n"
                "Without its gate it would act on replies, too, which is not what was fitted.\n"
                "Measure it with its gates: leave `gates_apart` out."
            )
        strength = times(self.strength, self.gate_settings.found)
        parts = {name: part.without_gates() for name, part in self.parts.items()}
        return SteeringArtifact(**{**_shallow(self), "strength": strength, "gate": None, "gates": {}, "parts": parts})

    def controls(self, strength: float | dict[int, float] | None = None) -> list[str]:
        """Say what makes this a control rather than a method, one phrase each; nothing if it is none.

        Args:
            strength: Instead of its own.
        """
        acting = [(part, part.strength) for part in self.parts.values()]
        if any(self.directions.values()) or not acting:
            acting.append((self, self.strength if strength is None else strength))
        idle = all(
            INTERVENTIONS[part.intervention].neutral and not any(s.values() if isinstance(s, dict) else [s])
            for part, s in acting
        )
        found = [in_words(self.control), (self.surgery or {}).get("control"), "nothing is steered: strength 0"]
        return [phrase for phrase in found[: 3 if idle else 2] if phrase]

    def check_model(self, num_layers: int, d_model: int, name: str) -> None:
        """Refuse a model of another shape, before its weights are read.

        Raises:
            ArtifactError: If the number of layers or the width differ.
        """
        if (num_layers, d_model) != (self.num_layers, self.d_model):
            raise ArtifactError(
                f"This artifact was fitted on {self.model} ({self.num_layers} layers, d_model {self.d_model}), but "
                f"{name} has {num_layers} layers and d_model {d_model}.\n"
                "A direction belongs to the stream of one model.\n"
                "Fit one for this model with `sa fit --config ...`."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of all directions and gates, of parts, too, by their names in the file; float32, on the CPU."""
        return {
            f"{f'parts.{part}.' if part else ''}{name}.layers.{layer}.{what}": tensor.detach().cpu().float().clone()
            for part, one in self.together.items()
            for what, held in (("direction", one.directions), ("gate", one.gates))
            for name, layers in held.items()
            for layer, tensor in layers.items()
        }

    def digest(self) -> str:
        """Return the SHA-256 of the settings and of every number that acts."""
        found = hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            found.update(name.encode())
            found.update(tensor.numpy().tobytes())
        return found.hexdigest()

    def save_pretrained(self, directory: str | Path, *, config: str = "") -> Path:
        """Write the artifact; the directory appears, or is replaced, when every file is complete.

        Args:
            directory: Created, or replaced if it holds an artifact.
            config: Text of config.yaml.
        """
        directory = Path(directory)
        with whole_directory(directory, replace=(directory / "sa_config.json").is_file()) as partial:
            save_file(self.tensors(), partial / "steering.safetensors", metadata={"format": "pt"})
            texts = {"sa_config.json": json.dumps(self.config(), indent=2) + "\n", "README.md": card(self)}
            for name, text in (texts | {"config.yaml": config}).items():
                (partial / name).write_text(text, encoding="utf-8")
        return directory

    def write_card(self, directory: str | Path, results: str) -> None:
        """Put results, such as the table of `sa validate`, into the card of an artifact on disk."""
        write_whole(Path(directory) / "README.md", card(self, results))

    def config(self) -> dict[str, Any]:
        """Return the content of sa_config.json."""
        shared = ("fingerprints", "model", "num_layers", "d_model", "blocks", "surgery")
        shared += ("template", "template_arguments", "template_tail")
        parts = {
            name: {key: value for key, value in part.config().items() if key not in (*shared, "format_version")}
            for name, part in self.parts.items()
        }
        values = _shallow(self)
        directions = values.pop("directions")
        del values["gates"], values["parts"]
        for name in ("template_arguments", "template_tail"):  # those of before have no such key
            if not values[name]:
                del values[name]
        values["gate"] = self.gate or "always"
        values["dose_in_all"] = {name: sum(layers.values()) for name, layers in self.dose.items()}
        values["statistics"] = {name: _finite(found) for name, found in self.statistics.items()}
        return {
            # Whoever knows no parts would steer nothing, or something else, without a word.
            "format_version": self._format_version,
            **values,
            "layers": {name: sorted(layers) for name, layers in directions.items()},
            "sign": sign(self),
            "strength_unit": INTERVENTIONS[self.intervention].unit_of(self.unit),
            **({"parts": parts} if parts else {}),
        }

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path, *, revision: str | None = None) -> "SteeringArtifact":
        """Read an artifact from a directory or a Hub repository.

        Raises:
            ArtifactError: If it is missing, damaged, or of a newer format.
        """
        path, config, held = read_artifact(path_or_repo, revision)
        parts = config.pop("parts", {})
        known = {item.name for item in fields(cls)} - {"directions", "gates"}
        try:
            shared = {key: value for key, value in config.items() if key not in ("gate", "statistics", "control")}
            read = {
                name: cls(**values_of(held.get(name, {}), {**shared, **part}, known, path))
                for name, part in parts.items()
            }
            return cls(**values_of(held.get("", {}), {**config, "parts": read}, known, path))
        except TypeError as error:
            raise ArtifactError(
                f"sa_config.json in {path} is not complete: {error}.\n"
                "Without it the directions cannot be applied.\nFit it again with `sa fit`."
            ) from error

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the artifact to a Hub repository, made if needed, and return its address."""
        api = HfApi(token=token)
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            folder = self.save_pretrained(Path(directory) / "artifact")
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Add steering artifact")
        return str(url)


def _shallow(artifact: SteeringArtifact) -> dict[str, Any]:
    return {item.name: getattr(artifact, item.name) for item in fields(artifact)}


def _seed_of(seed: int, part: str) -> int:
    """A seed for the draws of a part, 48 bits that no other part shares, nor another seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {part}".encode()).digest()[:6], "big")


def _finite(statistics: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """JSON has no NaN and no infinity: what is not known, or unbounded, is null."""
    return {
        name: [value if value is not None and math.isfinite(value) else None for value in values]
        for name, values in statistics.items()
    }
