"""What people write on the command line: configs by their shipped names, and the command itself."""

import shlex
from collections.abc import Sequence

from sa_lightning.foreign import is_safe
from sa_lightning.resources import config_path


def find_configs(arguments: Sequence[str]) -> list[str]:
    """Let `--config configs/…` mean a shipped file where the current directory has none of that name."""
    found, is_config = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if is_config:
            found.append(config_path(argument))
        elif flag in ("--config", "-c") and equals:
            found.append(f"{flag}={config_path(value)}")
        else:
            found.append(argument)
        is_config = argument in ("--config", "-c")
    return found


def limit_imports() -> None:
    """Let settings name no class or function that runs commands; with `--safe` none but ours."""
    from jsonargparse import set_parsing_settings

    set_parsing_settings(import_path_denylist=["*"] if is_safe() else [], import_path_allowlist=["sa_lightning"])


def typed(verb: str, arguments: Sequence[str]) -> str:
    """Return the command as it could be typed again."""
    return shlex.join(["sa", verb, *arguments, *(["--safe"] if is_safe() else [])])
