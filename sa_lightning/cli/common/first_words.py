"""What is said within a second, before any library is loaded: help, and plain mistakes in what was typed.

The options of each verb are read from its help text, which is kept in `help/`; `python -m
sa_lightning.cli.common.help_texts` writes these anew, and a test holds them against the parsers.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.cli.options.checks import check_given
from sa_lightning.cli.options.code import SAFE, check_code, check_lm_eval
from sa_lightning.cli.options.kept import HELP, Options, now, options_for
from sa_lightning.cli.options.trainer import REFUSED
from sa_lightning.cli.options.types import read
from sa_lightning.errors import SettingError
from sa_lightning.resources import config_path, read_config

#: Options whose value is a file that is read; whatever else it may be, a file by its suffix has to be there.
READ = (
    *("data.demonstrations", "data.prompts", "steering.ordinary", "steering.gate.prompts"),
    *("input", "prompts", "data", "facts", "facts_text", "surgery.facts"),
)
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")


def first_look(verb: str, arguments: Sequence[str]) -> str | None:
    """Return the help if it is asked for; refuse what can be refused without the libraries.

    Args:
        verb: With a help text.
        arguments: What was typed behind it.

    Raises:
        SettingError: If a config cannot be read, an option or a key is unknown, one is missing, or a file is.
    """
    path = HELP / f"{verb}.txt"
    if not path.exists():
        check_lm_eval(arguments)
        return None
    if "--help" in arguments or "-h" in arguments:
        return path.read_text(encoding="utf-8") + SAFE
    options, given = options_for(verb), dict[str, Any]()
    assert options is not None
    for name, value, added in _typed(arguments):
        if name in ("c", "config"):
            found = dict(_flat(_read_config(value or ""), options, f"`{value}`"))
        elif name in options.groups and value:
            found = dict(_flat(_read_config(value, inline=True), options, f"`{value}`", f"{name}."))
        elif not _knows(options, name):
            raise SettingError(_unknown(f"there is no option `--{name}`", name, options))
        else:
            found = {}
            check_code(name, value, options)
            _check_rule(name, given)
        given |= {**found, name: value}
        if given.get("steering.direction") == "none":  # as it was once written
            raise SettingError(
                "`--steering.direction` is none.\nRules act alone where no direction of pairs is named.\nLeave it out."
            )
        if not found and value is not None:
            check_given(verb, options, name, value, typed=True, added=added)
        for key, setting in found.items():
            check_code(key, setting, options)
            check_given(verb, options, key, setting, typed=False)
    if "print_config" in given:  # nothing runs
        return None
    missing = [
        name
        for name in options.required
        if name not in given and not any(name.startswith(f"{group}.") and group in given for group in options.groups)
    ]
    if missing:
        raise SettingError(
            f"the following arguments are required: {', '.join(f'--{name}' for name in missing)}.\n"
            f"They are neither typed nor in a config.\n`sa {verb} --help` explains them."
        )
    if given.get("output") == "":
        raise SettingError(
            "`--output` is empty.\nResults would lie among whatever is in the current directory.\nName a directory."
        )
    for name in READ:
        _check_file(name, given.get(name))
    return None


def _knows(options: Options, name: str) -> bool:
    return options.knows(name) or (name.removeprefix("trainer.") in REFUSED and "trainer" in options.groups)


def _check_rule(name: str, given: Mapping[str, Any]) -> None:
    """Refuse a setting of a rule that no config has: a parser cannot begin one so."""
    found = re.fullmatch(r"steering\.rules\.([^.]+)\.(.+)", name)
    if found is None:
        return
    rules = given.get("steering.rules")
    rules = read(rules) if isinstance(rules, str) else rules
    known = [*(rules if isinstance(rules, dict) else ()), *(key.removeprefix("steering.rules.") for key in given)]
    if found[1] not in known:
        there = f"There is {', '.join(rules)}." if isinstance(rules, dict) and rules else "There is none yet."
        raise SettingError(
            f"`--{name}` is about a rule `{found[1]}`, which no config before it has.\n{there}\n"
            f"Write the rule as a whole: `--steering.rules '{{{found[1]}: {{{found[2]}: …}}}}'`."
        )


def _typed(arguments: Sequence[str]) -> Iterator[tuple[str, str | None, bool]]:
    """Options and their values, if they have one, of several the first; and whether these are put behind others."""
    for i, argument in enumerate(arguments):
        if re.match(r"--?[A-Za-z]", argument):
            flag, equals, value = argument.partition("=")
            following = arguments[i + 1] if i + 1 < len(arguments) else None
            if following is not None and re.match(r"--?[A-Za-z]", following):
                following = None
            yield flag.lstrip("-").removesuffix("+"), value if equals else following, flag.endswith("+")


def _read_config(path: str, *, inline: bool = False) -> Any:
    """What a config holds; or the settings that are typed in place of a file."""
    if not Path(config_path(path)).is_file() and (inline or any(mark in path for mark in "{:\n")):
        return read(path)
    return read_config(path)


def _flat(settings: Any, options: Options, where: str, head: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of a config by their dotted names, down to those that are options."""
    if not isinstance(settings, dict):
        return
    for key, value in settings.items():
        name = f"{head}{key}"
        if (options.knows(name) and not (name in options.groups and isinstance(value, dict))) or (
            name.startswith("trainer.") and _knows(options, name)
        ):
            yield name, value
        elif name in options.groups or any(known.startswith(f"{name}.") for known in options.names):
            yield from _flat(value, options, where, f"{name}.")
        else:
            raise SettingError(
                _unknown(f"{where} has the key `{name}`, which is no setting of this verb", name, options)
            )


def _unknown(fact: str, name: str, options: Options) -> str:
    called = now(name)
    if called != name and options.knows(called):
        return f"{fact}.\nNothing would read it.\nIt is called --{called} now."
    near = difflib.get_close_matches(name, options.names, n=3, cutoff=0.6)
    last = [known for known in sorted(options.names) if known.rpartition(".")[2] == name.rpartition(".")[2]]
    found = list(dict.fromkeys([*near, *last[:3]]))
    meant = f"Near it: {', '.join(f'--{known}' for known in found)}." if found else "`--help` lists all there are."
    return f"{fact}.\nNothing would read it.\n{meant}"


def _check_file(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.endswith(SUFFIXES) or value.startswith(("world:", "[", "{")):
        return
    if not Path(config_path(value)).exists():
        raise SettingError(
            f"{value} does not exist, which is given as `--{name}`.\n"
            "It is read before anything is fitted or measured.\nCheck the path."
        )
