"""The help texts that are kept in `common/help/`, read: the options of each verb, their types and defaults."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HELP = Path(__file__).parents[1] / "common" / "help"
#: Words of settings of steering, and what these are called since.
RENAMED = {"parts": "rules", "finds": "positive", "against": "negative", "spares": "exempt"}
RENAMED |= {"found": "positive_factor", "others": "negative_factor"}
_OPTION = re.compile(r"^  (?:ARG: +)?(-.*?)(?:  |$)")
_NAME = re.compile(r"(?<![\w-])--?([\w][\w.-]*)\+?")
_TYPE = re.compile(r"\((?:required, )?type: (.*?)(?:, default: (.*))?\)$")


@dataclass(frozen=True)
class Setting:
    """An option that has a value.

    Attributes:
        kind: Its type, as the help writes it; of a flag, nothing.
        default: As the help writes it; None if it has to be given.
        about: What the help says of it.
        optional: Whether it may stand without a value, as `--overwrite` does.
    """

    kind: str
    default: str | None
    about: str
    optional: bool = False


@dataclass(frozen=True)
class Options:
    """The options of a verb.

    Attributes:
        names: All of them, without dashes.
        required: Those that have to be given.
        groups: Those that name a file with settings of a group, as `model`.
        settings: Name to what it takes.
    """

    names: frozenset[str]
    required: tuple[str, ...]
    groups: frozenset[str]
    settings: Mapping[str, Setting] = field(default_factory=dict, compare=False)

    def knows(self, name: str) -> bool:
        """Whether there is such an option, or one whose value it is a part of."""
        return name in self.names or self.head(name) is not None

    def head(self, name: str) -> str | None:
        """The option whose value this is a part of, as `steering.rules` of `steering.rules.refuse.strength`."""
        parts = name.split(".")
        heads = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        return next((head for head in heads if head in self.names - self.groups), None)


def options_of(text: str) -> Options:
    """Read the options of a verb from its help."""
    names, required, groups = set(), [], set()
    settings: dict[str, Setting] = {}
    for block in _blocks(text.partition("options:\n")[2]):
        found = _OPTION.match(block[0])
        assert found is not None
        known = _NAME.findall(found[1])
        known += [name.replace("-", "_") for name in known if "-" in name]  # as configs have them
        names |= {*known}
        longest = max(known[: len(_NAME.findall(found[1]))], key=len)
        told = _joined([block[0][found.end() :], *block[1:]])
        if "(required" in told:
            required.append(longest)
        if "Path to a configuration file." in told and longest != "config":
            groups.add(longest)
        elif kind := _TYPE.search(told):
            optional = "[{true,false}]" in found[1]
            setting = Setting(kind[1], kind[2], told[: kind.start()].strip(), optional)
            settings |= dict.fromkeys(known, setting)
    return Options(frozenset(names), tuple(required), frozenset(groups), settings)


@cache
def options_for(verb: str) -> Options | None:
    """The options of a verb, or those of a class that stands in `help/classes`; None where no help is kept."""
    path = HELP / f"{verb}.txt"
    return options_of(path.read_text(encoding="utf-8")) if path.exists() else None


def fields_of(name: str) -> Mapping[str, str] | None:
    """The settings of a class of ours and their types, if its help is kept."""
    found = options_for(f"classes/{name}") if name.isidentifier() else None
    return None if found is None else {known: setting.kind for known, setting in found.settings.items()}


def now(name: str) -> str:
    """What a setting is called now that may be called by an older word."""
    return ".".join(RENAMED.get(word, word) for word in name.split("."))


def _blocks(text: str) -> list[list[str]]:
    """The lines of each option, its own and those of its explanation."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if _OPTION.match(line):
            found.append([line])
            inside = True
        elif inside and line.startswith("   "):
            found[-1].append(line)
        else:  # the title of a group
            inside = False
    return found


def _joined(lines: list[str]) -> str:
    """One line of several, words that were broken at a hyphen whole again."""
    text = ""
    for line in (line.strip() for line in lines):
        text += line if not text or re.search(r"\w-$", text) else f" {line}"
    return text.strip()
