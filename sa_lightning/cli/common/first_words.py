"""What is said within a second, before any library is loaded: help, and plain mistakes in what was typed.

The options of each verb are read from its help text, which is kept in `help/`; `python -m
sa_lightning.cli.common.help_texts` writes these anew, and a test holds them against the parsers.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.foreign import is_safe
from sa_lightning.resources import config_path, read_config

HELP = Path(__file__).parent / "help"
#: Options whose value is a file that is read; whatever else it may be, a file by its suffix has to be there.
READ = ("data.demonstrations", "data.prompts", "steering.ordinary", "steering.gate.prompts", "input", "prompts")
SAFE = "\nwith any verb:\n  --safe                Run nothing that comes with a config or task file of others; see SECURITY.md.\n"
CODE = ("trust_remote_code", "confirm_run_unsafe_code")  # options that let code of others run
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
#: Words of settings of steering, and what these are called since.
RENAMED = {"parts": "rules", "finds": "positive", "against": "negative", "spares": "exempt"}
RENAMED |= {"found": "positive_factor", "others": "negative_factor"}
_OPTION = re.compile(r"^  (?:ARG: +)?(-.*?)(?:  |$)")
_NAME = re.compile(r"(?<![\w-])--?([\w][\w.-]*)\+?")


@dataclass(frozen=True)
class Options:
    """The options of a verb.

    Attributes:
        names: All of them, without dashes.
        required: Those that have to be given.
        groups: Those that name a file with settings of a group, as `model`.
    """

    names: frozenset[str]
    required: tuple[str, ...]
    groups: frozenset[str]

    def knows(self, name: str) -> bool:
        """Whether there is such an option, or one whose value it is a part of."""
        if name in self.names:
            return True
        parts = name.split(".")
        heads = {".".join(parts[:count]) for count in range(1, len(parts))}
        return bool(heads & (self.names - self.groups))


def options_of(text: str) -> Options:
    """Read the options of a verb from its help."""
    names, required, groups = set(), [], set()
    current = ""
    for line in text.partition("options:\n")[2].splitlines():
        if found := _OPTION.match(line):
            known = _NAME.findall(found[1])
            names |= {*known, *(name.replace("-", "_") for name in known)}  # as configs have them
            current = max(known, key=len)
        if "(required" in line:
            required.append(current)
        if "Path to a configuration file." in line and current != "config":
            groups.add(current)
    return Options(frozenset(names), tuple(required), frozenset(groups))


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
        _check_lm_eval(arguments)
        return None
    text = path.read_text(encoding="utf-8")
    if "--help" in arguments or "-h" in arguments:
        return text + SAFE
    options, given = options_of(text), {}
    for name, value in _typed(arguments):
        if name in ("c", "config"):
            for key, setting in _flat(_read_config(value), options, f"`{value}`"):
                _check_code(key, setting, options)
                given[key] = setting
        elif not options.knows(name):
            raise SettingError(_unknown(f"there is no option `--{name}`", name, options))
        else:
            _check_code(name, value, options)
        given[name] = value
    if given.get("steering.direction") == "none":  # as it was once written
        raise SettingError(
            "`--steering.direction` is none.\nRules act alone where no direction of pairs is named.\nLeave it out."
        )
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
    for name in READ:
        _check_file(name, given.get(name))
    return None


def _check_code(name: str, value: Any, options: Options) -> None:
    """With `--safe`, refuse settings that let code of a model run, and files of settings that settings name.

    Classes are refused where a parser would import them (`limit_imports`).
    """
    if not is_safe():
        return
    if name in (*options.groups, "config") and isinstance(value, str):
        raise SettingError(
            f"`{name}` names a file of settings, {value}, and `--safe` looks into configs alone.\n"
            "What it names would be used unseen.\nGive it as a further `--config`, under the key of the group."
        )
    for key, setting in _within(name, value):
        if key.rpartition(".")[2] in CODE and str(setting).lower() not in ("false", "no", "off", "0", "none"):
            raise SettingError(
                f"`{key}` is {setting}, and `--safe` runs nothing that comes with a file.\n"
                "It runs Python code of the model's directory.\nRead that code, and leave `--safe` out if you trust it."
            )


def _within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting, and all that are within it."""
    yield name, value
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _within(str(key), item)


def _check_lm_eval(arguments: Sequence[str]) -> None:
    """With `--safe`, refuse options of lm-eval's own that run code."""
    unsafe = [one for one in arguments if any(word in one for word in CODE) or one.startswith(("--config", "-C"))]
    if is_safe() and unsafe:
        raise SettingError(
            f"`{unsafe[0]}` is given, and `--safe` runs nothing that comes with a file.\n"
            "It runs code of others, or names a config that is not looked into.\nLeave one of the two out."
        )


def _typed(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options and their values; of several values, the first."""
    for i, argument in enumerate(arguments):
        if re.match(r"--?[A-Za-z]", argument):
            flag, equals, value = argument.partition("=")
            following = arguments[i + 1] if i + 1 < len(arguments) else ""
            yield flag.lstrip("-").removesuffix("+"), value if equals else following


def _read_config(path: str) -> Any:
    """What a config holds; nothing where it is settings typed in place of a file."""
    if not Path(config_path(path)).is_file() and any(mark in path for mark in "{:\n"):
        return {}
    return read_config(path)


def _flat(settings: Any, options: Options, where: str, head: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of a config by their dotted names, down to those that are options."""
    if not isinstance(settings, dict):
        return
    for key, value in settings.items():
        name = f"{head}{key}"
        if options.knows(name) and not (name in options.groups and isinstance(value, dict)):
            yield name, value
        elif name in options.groups or any(known.startswith(f"{name}.") for known in options.names):
            yield from _flat(value, options, where, f"{name}.")
        else:
            raise SettingError(
                _unknown(f"{where} has the key `{name}`, which is no setting of this verb", name, options)
            )


def new_words(error: str) -> str:
    """Say what options are called now that a parser refuses by older words; nothing, or a line for each."""
    names = [name for name in re.findall(r"does not accept option '([\w.-]+)'", error) if _now(name) != name]
    denied = "Classes and functions that run commands are refused; with `--safe`, all but ours.\n"
    return "".join(f"`{name}` is called `{_now(name)}` now.\n" for name in names) + (
        denied if "import path denylist" in error else ""
    )


def _now(name: str) -> str:
    return ".".join(RENAMED.get(word, word) for word in name.split("."))


def _unknown(fact: str, name: str, options: Options) -> str:
    now = _now(name)
    if now != name and options.knows(now):
        return f"{fact}.\nNothing would read it.\nIt is called --{now} now."
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
