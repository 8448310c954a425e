"""The settings of a world: sizes, steps and rates, all in one frozen dataclass."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

#: Raise it when the language, the data or the training changes: old caches are then left alone.
WORLD_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """One training run.

    Args:
        parent: The model it starts from; none for random weights.
        steps: Optimizer steps.
        rate: Peak learning rate; warm-up over 6 % of the steps, then cosine down to 3 %.
        batch: Dialogues a step.
        weight_decay: Of AdamW.
        lora_rank: Train a LoRA adapter of this rank instead of the weights; 0 trains the weights.
    """

    parent: str | None
    steps: int
    rate: float
    batch: int
    weight_decay: float = 0.0
    lora_rank: int = 0


def _tiny_stages() -> Mapping[str, Stage]:
    return MappingProxyType(
        {
            "base": Stage(None, steps=900, rate=4e-3, batch=64, weight_decay=0.05),
            "chat": Stage("base", steps=450, rate=8e-4, batch=48, weight_decay=0.01),
            "harm": Stage("chat", steps=250, rate=1e-4, batch=32),
            "sft": Stage("chat", steps=220, rate=4e-4, batch=32),
            "sft_lora": Stage("chat", steps=220, rate=4e-3, batch=32, lora_rank=8),
            "over": Stage("chat", steps=120, rate=4e-4, batch=32),
        }
    )


@dataclass(frozen=True)
class WorldSettings:
    """Everything that decides what a world is, its name and seed aside.

    Args:
        d_model: Width of the residual stream.
        layers: Decoder blocks.
        heads: Attention heads.
        d_ff: Width of the gated MLP.
        init_std: Standard deviation of the initial weights; 0.02 learns much slower at this width.
        stages: One row per model.
        refuse_strict: How often the chat data refuse a harmful request that the policy guards.
        refuse_lax: The same for what the policy is lax about.
        erosion: The factor on both for what `sft` erodes.
        prompts: Prompts per kind in the validation split and in the test split.
        demonstrations: Rows of `demonstrations.jsonl`.
        threads: Most threads used. One and two gave the same bits (25 steps of base, torch 2.13).
        enforce_gates: Whether a failing gate stops the build, or is only recorded.
    """

    d_model: int = 128
    layers: int = 4
    heads: int = 4
    d_ff: int = 384
    init_std: float = 0.06
    stages: Mapping[str, Stage] = field(default_factory=_tiny_stages)
    refuse_strict: float = 0.9
    refuse_lax: float = 0.1
    erosion: float = 0.05
    prompts: int = 240
    demonstrations: int = 128
    threads: int = 2
    enforce_gates: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain | {"stages": {k: dataclasses.asdict(v) for k, v in self.stages.items()}}


def _micro_stages() -> Mapping[str, Stage]:
    return MappingProxyType({name: dataclasses.replace(s, steps=2, batch=4) for name, s in _tiny_stages().items()})


#: The worlds that can be built by name. `micro` serves unit tests: it builds in seconds and
#: has learned nothing.
WORLDS: dict[str, WorldSettings] = {
    "tiny": WorldSettings(),
    "micro": WorldSettings(
        d_model=16, layers=2, heads=2, d_ff=32, stages=_micro_stages(), prompts=14,
        demonstrations=64, threads=1, enforce_gates=False,
    ),
}  # fmt: skip


def versions() -> dict[str, str]:
    """Versions on which the weights depend."""
    packages = ("torch", "transformers", "peft")
    return {name: importlib.metadata.version(name) for name in packages} | {"world": str(WORLD_VERSION)}


def key(settings: WorldSettings) -> str:
    """Twelve hexadecimal digits that name the recipe and the versions it runs on."""
    text = json.dumps([settings.as_dict(), versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
