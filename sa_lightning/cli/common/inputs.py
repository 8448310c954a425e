"""What people write on the command line: configs by their shipped names, and the command itself."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from jsonargparse import SUPPRESS, ArgumentParser

from sa_lightning.cli.options.checks import check_parsed
from sa_lightning.cli.options.kept import options_for
from sa_lightning.foreign.files import is_safe
from sa_lightning.ranges import range_of
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


def parse(parser: ArgumentParser, verb: str, arguments: Sequence[str]) -> Any:
    """Parse what was typed behind a verb, and check all values once more, wherever they came from.

    Its help says the range of each number.

    Raises:
        ArgumentError: By the parser.
        SettingError: If a value is out of its range.
    """
    for action in parser._actions:
        known = range_of(action.dest) if re.search(r"\b(int|float)\b", str(getattr(action, "_typehint", ""))) else None
        if known is not None and action.help and action.help != SUPPRESS:
            action.help += f" {str(known).capitalize()}."
    found = parser.parse_args(find_configs(arguments))
    options = options_for(verb)
    assert options is not None, verb
    check_parsed(verb, options, found.as_dict())
    return found


def typed(verb: str, arguments: Sequence[str]) -> str:
    """Return the command as it could be typed again."""
    return shlex.join(["sa", verb, *arguments, *(["--safe"] if is_safe() else [])])
