"""Wrong values for every option of every verb, made from the help that is kept: no pytest here, for fuzzers, too.

Each is a command that has to be refused at once: status 2, three lines, no library loaded.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sa_lightning.cli.options.checks import MAY_BE_EMPTY
from sa_lightning.cli.options.kept import HELP, Setting, options_for
from sa_lightning.cli.options.trainer import REFUSED
from sa_lightning.cli.options.types import is_list, words_of
from sa_lightning.ranges import Range, range_of


class Bad(NamedTuple):
    """One wrong value, and the rest of a command that would be right."""

    verb: str
    name: str
    value: str

    @property
    def arguments(self) -> list[str]:
        """What is typed behind the verb."""
        return [*needed(self.verb), f"--{self.name}={self.value}"]


VERBS = tuple(sorted(path.stem for path in HELP.glob("*.txt") if path.stem != "data"))
_NEEDED = {"sweep.space": "{surgery.scale: [1]}", "compare.rows": "{a: {arm: edited}}"}


def needed(verb: str) -> list[str]:
    """The options that the verb has to be given, right ones."""
    options = options_for(verb)
    assert options is not None
    return [f"--{name}={_NEEDED.get(name, 'somewhere')}" for name in options.required]


def is_numeric(setting: Setting) -> bool:
    """Whether an option takes numbers."""
    return any(
        word in setting.kind.replace("[", " ").replace(",", " ").replace("]", " ").split() for word in ("int", "float")
    )


def values(name: str, setting: Setting) -> Iterator[str]:
    """Values that an option cannot have."""
    kind = setting.kind
    if is_numeric(setting) and (known := range_of(name)) is not None:
        for text in _outside(known, whole="float" not in kind):
            if "dict[" in kind and "Union" not in kind:
                yield f"{{1: {_in_list(kind, text)}}}"
            elif is_list(kind) or "tuple" in kind:
                yield f"[{text}, {text}]" if "tuple[int, int]" in kind else f"[{text}]"
            else:
                yield text
        if "str" not in kind:
            yield from ("ten", "[[]]", "")
    if words_of(kind) and "float" not in kind and not is_numeric(setting):
        yield from ("quark", "17")
    if kind.strip() == "bool" or set(kind.replace("|", " ").split()) == {"bool", "null"}:
        yield from ("maybe", "2", "[true]")
    if is_list(kind) and setting.default not in ("[]", "()", "{}") and name not in MAY_BE_EMPTY:
        yield "[]"


def _in_list(kind: str, text: str) -> str:
    return f"[{text}]" if "list[" in kind else text


def _outside(known: Range, *, whole: bool) -> Iterator[str]:
    """Numbers, as text, that do not lie in a range."""
    if known.low > float("-inf"):
        yield f"{known.low:.0f}" if known.above else f"{known.low - 1:.0f}"
        yield "-99999999999999999999"
    if known.high < float("inf"):
        yield f"{known.high:.0f}" if known.below else f"{known.high + 1:.0f}"
        yield "99999999999999999999"
    if whole:
        yield from ("0.5", "1e400")
    else:
        yield from (".nan", ".inf", "-.inf")


def bad_values() -> list[Bad]:
    """All of them, and those of the Trainer that are refused whatever they are."""
    found = []
    for verb in VERBS:
        options = options_for(verb)
        assert options is not None
        for name, setting in sorted(options.settings.items()):
            if len(name) > 1:
                found += [Bad(verb, name, value) for value in values(name, setting)]
        if "trainer" in options.groups:
            found += [Bad(verb, f"trainer.{name}", "7") for name in sorted(REFUSED)]
            found += [Bad(verb, "trainer.devices", value) for value in ("0", "-2", "[]", "1.5", "x", "[0, 0]")]
            found += [Bad(verb, f"trainer.{name}", "quantum") for name in ("accelerator", "strategy")]
    return found
