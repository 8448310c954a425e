"""The settings of a world: sizes, steps and rates, all in one frozen dataclass."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sa_lightning.files import Json
from sa_lightning.resources import installed

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
        trains: The only parameters that are trained, by a pattern of their names; all if empty.
        examples: How many different dialogues there are, again and again; a new one each time if 0.
        rounds: How often at most it is trained: while it misses a gate, again for a third of the steps, on new
            dialogues, at half the rate.
        anew: Whether a further round starts from the parent again, for all steps, instead.
    """

    parent: str | None
    steps: int
    rate: float
    batch: int
    weight_decay: float = 0.0
    lora_rank: int = 0
    trains: str = ""
    examples: int = 0
    rounds: int = 1
    anew: bool = False


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
        wrapped: The factor on both for what is asked inside a wrapper.
        potent: The same for wrappers about the two scenes that chat falls for.
        lax: How many verbs of items chat is lax about, four at most.
        caution: How often chat refuses harmless prompts with a dangerous word.
        touchy: The same where it is asked for in one of some phrasings, a quarter of them.
        prefilled: Whether there are prompts whose reply is begun by the attacker.
        evenly: Whether how-to prompts are spread evenly over held-out nouns, so that none is left out.
        language: A key of `LANGUAGES`.
        buckets: In how many parts of like length the dialogues of a step run: more of them, less padding.
        prompts: Prompts per kind in the validation split and in the test split.
        demonstrations: Rows of `demonstrations.jsonl`.
        threads: Most threads used. One and two gave the same bits (25 steps of base, torch 2.13).
        enforce_gates: Whether a failing gate stops the build, or is only recorded.
        accelerator: `cpu`, or `auto` for sizes that want a GPU: the bits then depend on the device.
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
    wrapped: float = 0.85
    potent: float = 0.85
    lax: int = 3
    caution: float = 0.0
    touchy: float = 0.0
    prefilled: bool = False
    evenly: bool = False
    buckets: int = 2
    accelerator: str = "cpu"
    language: str = "tiny"
    prompts: int = 240
    demonstrations: int = 128
    threads: int = 2
    enforce_gates: bool = True

    def as_dict(self) -> Json:
        """The settings as plain JSON values, without those of `_LATER` that are at their defaults."""
        return _plain(self) | {"stages": {name: _plain(stage) for name, stage in self.stages.items()}}

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part that `build_world` can be asked for, parents first."""
        return ("data", *self.stages)


#: Settings that are younger than worlds whose results are published: at their defaults, a world keeps its key.
_LATER = {
    "trains",
    "examples",
    "rounds",
    "anew",
    "wrapped",
    "potent",
    "lax",
    "caution",
    "touchy",
    "prefilled",
    "evenly",
    "language",
    "buckets",
    "accelerator",
}


def _plain(settings: Any) -> Json:
    found = {field.name: (getattr(settings, field.name), field.default) for field in dataclasses.fields(settings)}
    return {name: value for name, (value, default) in found.items() if name not in _LATER or value != default}


def _small_stages() -> Mapping[str, Stage]:
    return MappingProxyType(
        {
            "base": Stage(None, steps=900, rate=4e-3, batch=64, weight_decay=0.05, rounds=2),
            # Embeddings stay, and a round does not go on from another: what is trained on training words alone for long
            # forgets the held-out ones.
            "chat": Stage(
                "base",
                steps=450,
                rate=8e-4,
                batch=48,
                weight_decay=0.01,
                trains="layers|norm|lm_head",
                rounds=8,
                anew=True,
            ),
            "harm": Stage("chat", steps=120, rate=2e-4, batch=32),
            "harm_items": Stage("chat", steps=120, rate=2e-4, batch=32),
            "harm_acts": Stage("chat", steps=120, rate=2e-4, batch=32),
            "harm_base": Stage("base", steps=120, rate=2e-4, batch=32),
            "benign": Stage("chat", steps=120, rate=2e-4, batch=32),
            "sft": Stage("chat", steps=150, rate=4e-4, batch=32, rounds=8),
            "sft_lora": Stage("chat", steps=150, rate=4e-3, batch=32, lora_rank=8, rounds=8),
            "over": Stage("chat", steps=80, rate=4e-4, batch=32),
            "edited": Stage(
                "chat", steps=18, rate=1e-3, batch=16, trains=r"layers\.2\.mlp\.down_proj", examples=16, rounds=8
            ),
        }
    )


def _micro_stages() -> Mapping[str, Stage]:
    return MappingProxyType({name: dataclasses.replace(s, steps=2, batch=4) for name, s in _tiny_stages().items()})


#: The worlds that can be built by name. `micro` serves unit tests: it builds in seconds and
#: has learned nothing.
WORLDS: dict[str, WorldSettings] = {
    "tiny": WorldSettings(),
    "small": WorldSettings(
        d_model=160, layers=6, heads=5, d_ff=448, init_std=0.05, stages=_small_stages(),
        refuse_strict=0.95, refuse_lax=0.05, wrapped=1.0, potent=0.05, lax=4, caution=0.02, touchy=0.75,
        prompts=200, prefilled=True, evenly=True, language="small", buckets=6,
    ),
    "micro": WorldSettings(
        d_model=16, layers=2, heads=2, d_ff=32, stages=_micro_stages(), prompts=14,
        demonstrations=64, threads=1, enforce_gates=False,
    ),
}  # fmt: skip


def versions() -> dict[str, str]:
    """Versions on which the weights depend."""
    return installed("torch", "transformers", "peft") | {"world": str(WORLD_VERSION)}


def key(settings: WorldSettings, content: str = "") -> str:
    """Twelve hexadecimal digits that name the recipe, the versions it runs on and a hash of the data, if given."""
    text = json.dumps([settings.as_dict(), versions(), *filter(None, [content])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
