"""SteeringArtifact: named rules for one model, and where they come from, as one directory.

    sa_config.json        everything but the tensors, `format_version` first
    steering.safetensors  `{set}.layers.{i}.direction`, and `.gate` where there is one; a set is `original` or `edited`
                          weights; of all rules but that of pairs, the same behind `rules.{name}.`
    README.md             a model card with the numbers
    config.yaml           the configuration that made it

No pickle is read or written.
"""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from huggingface_hub import HfApi
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # its `PathLike` is bare
from torch import Tensor

from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.files import Json, whole_directory, write_whole
from sa_lightning.outputs import sealed
from sa_lightning.schema import check_types
from sa_lightning.steering.artifact.card import card
from sa_lightning.steering.artifact.format import (
    CHANGED_CARD,
    digests,
    foreign_in_artifact,
    has_changed_card,
    read_artifact,
    written,
)
from sa_lightning.steering.artifact.rule import Rule
from sa_lightning.steering.directions.controls import in_words
from sa_lightning.steering.intervention import check_strength

PAIRS = "pairs"  # the rule that is fitted on demonstrations


@dataclass
class SteeringArtifact:
    """Rules that act together on one model, with everything needed to apply them again.

    Attributes:
        rules: Name to rule; that of demonstrations, where there is one, is the first, and called `pairs`.
        fingerprints: Set name to the fingerprint of those weights (`weights_fingerprint`).
        model: Directory or Hub id of the target model.
        num_layers: Number of decoder blocks of the target.
        d_model: Width of its residual stream.
        blocks: Path of the decoder blocks, where they are not found by their number.
        quantization: How the weights of the target were, or once were, quantised; None for weights that never were.
        template: How conversations were written (`chat`, `plain`, …).
        template_arguments: Handed to the template, such as `{"enable_thinking": False}`.
        system_prompt: What the system says in conversations without a system turn, if anything.
        template_tail: What the template writes between the words of the user and the reply; None if that is not known.
        demonstrations: File name, SHA-256, number of pairs, how many were truncated.
        surgery: Inputs and settings of the parameter edit that belongs to the set `edited`, or None.
        control: Kind and seed of what stands in place of fitted directions (`controls`), or None.
        command: What was typed.
        versions: Of the packages that made it.
    """

    rules: dict[str, Rule]
    fingerprints: dict[str, str]
    model: str
    num_layers: int
    d_model: int
    blocks: str | None = None
    quantization: str | None = None
    template: str = "chat"
    template_arguments: Json = field(default_factory=Json)
    system_prompt: str | None = None
    template_tail: str | None = None
    demonstrations: Json = field(default_factory=Json)
    surgery: Json | None = None
    control: Json | None = None
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Refuse rules that could not be applied."""
        for name, rule in self.rules.items():
            if not re.fullmatch(r"[\w-]+", name):
                raise ArtifactError(
                    f"A rule of this artifact is called {name!r}.\nNames of rules are keys of tensors.\n"
                    "Name it by letters, digits, `_` and `-`."
                )
            rule.check(self.num_layers, self.d_model)

    @property
    def first(self) -> Rule | None:
        """The rule that a single strength is meant for: that of pairs, or the only one; None among several others."""
        known = self.rules.get(PAIRS)
        return next(iter(self.rules.values())) if known is None and len(self.rules) == 1 else known

    @property
    def gated(self) -> dict[str, Rule]:
        """The rules that have a gate."""
        return {name: rule for name, rule in self.rules.items() if rule.gate is not None}

    def with_strength(self, strength: float | dict[int, float] | None) -> "SteeringArtifact":
        """Return the same artifact with another strength of its `first` rule; of the others theirs stay.

        Raises:
            SettingError: If there are several rules and none of pairs, or the intervention cannot take it.
        """
        if strength is None:
            return self
        first = self.first
        if first is None:
            raise SettingError(
                f"A strength of {strength} is given, but this artifact has several rules: {', '.join(self.rules)}.\n"
                "Each has a strength of its own, and this one would be ignored.\nLeave it out, or fit again."
            )
        check_strength(strength, first.intervention)
        if first.gate is not None:
            first.gate.settings.check(strength, first.intervention)
        changed = replace(first, strength=strength)
        return replace(self, rules={name: changed if one is first else one for name, one in self.rules.items()})

    def randomised(self, seed: int) -> "SteeringArtifact":
        """Return the same artifact with random unit directions: the control of equal strength.

        Each rule has draws of its own, which no other rule, and no other seed, has.
        """
        rules = {
            name: rule.randomised(self.num_layers, self.d_model, seed if name == PAIRS else _seed_of(seed, name))
            for name, rule in self.rules.items()
        }
        return replace(self, rules=rules, control={"kind": "random", "seed": seed})

    def without_gates(self) -> "SteeringArtifact":
        """Return the same artifact steering every prompt, as one that its gates take for positive.

        Raises:
            ArtifactError: If a rule acts where the prompt ends alone, which takes a gate.
        """
        alone = [name for name, rule in self.rules.items() if rule.only_prompt and not rule.whole_prompt]
        if alone:
            raise ArtifactError(
                f"The rule {', '.join(alone)} acts where a prompt ends alone, where a gate has read it.\n"
                "Without its gate it would act on replies, too, which is not what was fitted.\n"
                "Measure it with its gates: leave `gates_apart` out."
            )
        return replace(self, rules={name: rule.ungated() for name, rule in self.rules.items()})

    def controls(self) -> list[str]:
        """Say what makes this a control rather than a method, one phrase each; nothing if it is none."""
        acting = [rule for rule in self.rules.values() if any(rule.directions.values())]
        idle = all(rule.is_idle(rule.strength) for rule in acting)
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
        """Return copies of all directions and gates by their names in the file; float32, on the CPU."""
        gates = {name: rule.gate.states if rule.gate else {} for name, rule in self.rules.items()}
        return {
            f"{'' if rule == PAIRS else f'rules.{rule}.'}{name}.layers.{layer}.{what}": (
                tensor.detach().cpu().float().clone()
            )
            for rule, one in self.rules.items()
            for what, held in (
                ("direction", one.directions),
                ("gate", {name: state.vectors for name, state in gates[rule].items()}),
            )
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
        foreign = foreign_in_artifact(directory) if os.path.lexists(directory) else None
        if foreign is not None:
            raise ArtifactError(f"{directory} {foreign}.\nIt would be lost.\nMove it away, or write elsewhere.")
        with whole_directory(directory, replace=True) as partial:
            tensors = self.tensors()
            save_file(tensors, partial / "steering.safetensors", metadata={"format": "pt"})
            written = json.dumps(self.config() | {"tensors": digests(tensors)}, indent=2)
            texts = {"sa_config.json": written + "\n", "README.md": sealed(card(self))}
            for name, text in (texts | {"config.yaml": config}).items():
                (partial / name).write_text(text, encoding="utf-8")
        return directory

    def write_card(self, directory: str | Path, results: str) -> None:
        """Put results, such as the table of `sa validate`, into the card of an artifact on disk.

        Raises:
            ArtifactError: If somebody has changed the card since it was written.
        """
        if has_changed_card(Path(directory)):
            raise ArtifactError(f"{directory} {CHANGED_CARD}.\nNobody's words are replaced.\nMove the card away.")
        write_whole(Path(directory) / "README.md", sealed(card(self, results)))

    def config(self) -> Json:
        """Return the content of sa_config.json."""
        shared = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "rules"}
        return written(shared, self.rules, PAIRS)

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path, *, revision: str | None = None) -> "SteeringArtifact":
        """Read an artifact from a directory or a Hub repository.

        Raises:
            ArtifactError: If it is missing, damaged, or of a newer format.
        """
        values = read_artifact(path_or_repo, PAIRS, revision)
        try:
            check_types(cls, values)
        except TypeError as error:
            raise ArtifactError(
                f"sa_config.json in {path_or_repo} is damaged: {error}.\n"
                "Without it the directions cannot be applied.\nFit it again with `sa fit`."
            ) from error
        return cls(**values)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the artifact to a Hub repository, made if needed, and return its address."""
        api = HfApi(token=token)
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            folder = self.save_pretrained(Path(directory) / "artifact")
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Add steering artifact")
        return str(url)


def _seed_of(seed: int, rule: str) -> int:
    """A seed for the draws of a rule, 48 bits that no other rule shares, nor another seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {rule}".encode()).digest()[:6], "big")
