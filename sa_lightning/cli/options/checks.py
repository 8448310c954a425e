"""Refuse a value that an option cannot have, in our words and without a library.

First of what was typed or stands in a config, and once more of all that a parser made of it.
"""

import re
from collections.abc import Mapping
from typing import Any

from sa_lightning.cli.options.kept import Options, Setting, fields_of, now
from sa_lightning.cli.options.trainer import REFUSED, check_trainer
from sa_lightning.cli.options.types import fits, flat, in_words, is_list, leaves, read, within
from sa_lightning.errors import SettingError
from sa_lightning.ranges import check_numbers, range_of

_ARMS = ("original", "steered", "gated", "edited", "edited+steered", "edited+gated")
_RATES = ("attack_success", "over_refusal", "harmless_refusal", "degenerate", "refusal_harmful", "utility")
#: Options whose words are not in their type, by verb and name, or by name.
WORDS: dict[str, tuple[str, ...]] = {
    "data.arms": _ARMS,
    "sweep.objectives": _RATES,
    "sweep.limits": _RATES,
    "compare.objective": _RATES,
    "compare.limits": _RATES,
    "quickstart world": ("smol", "tiny", "micro"),
    "quickstart target": ("chat", "sft"),
}
#: Lists and mappings that mean something where they are empty, though they are not by default.
MAY_BE_EMPTY = (
    *("steering.rules", "model.template_arguments", "template_arguments", "local.template_arguments"),
    *("compare.limits", "sweep.limits"),
    *("trainer.callbacks", "trainer.logger", "trainer.plugins"),
)
NEVER_EMPTY = ("evaluation.tasks",)
DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu|hpu|npu)(:\d+)?")
SHOWN = 60  # characters of a value
LONGEST = 160  # characters of what the help says


def check_given(verb: str, options: Options, name: str, value: Any, *, typed: bool, added: bool = False) -> None:
    """Refuse a value of an option by its type and range.

    Args:
        verb: Of the option.
        options: Of the verb.
        name: Of the option, or of a part of its value.
        value: What was typed for it, or what a config holds.
        typed: Whether it was typed: text.
        added: Whether it was typed with a `+`, to be put behind a list.

    Raises:
        SettingError: In three lines.
    """
    if name.startswith("trainer.") and name.removeprefix("trainer.") in REFUSED:
        check_trainer(name.removeprefix("trainer."), read(value) if typed else value)
        return
    head = name if name in options.settings else options.head(name)
    if head is None or head not in options.settings:
        return
    setting = options.settings[head]
    kind = setting.kind
    if head != name:
        kind = within(kind, name.removeprefix(f"{head}.").split("."), fields_of)
        if kind is None:
            if within(setting.kind, name.removeprefix(f"{head}.").split(".")[:1], fields_of) is not None:
                raise SettingError(
                    f"there is no option `--{name}`: `--{head}` has no such part.\n"
                    f"It takes {in_words(setting.kind)}.\n`sa {verb} --help` explains it."
                )
            return
    if typed and (added or (verb, name) == ("judge", "judge")):  # which gathers what is given several times
        value = read(value) if is_list(kind) and str(value).lstrip().startswith("[") else [value]
        ok = all(fits([one], kind, fields_of) for one in value)
    else:
        ok = fits(value, kind, fields_of, typed=typed)
    if not ok:
        for part, one, known in leaves(read(value) if typed and isinstance(value, str) else value, kind, fields_of):
            if known is None:
                called = part.rpartition(".")[2]
                renamed = f"`{called}` is called `{now(called)}` now." if now(called) != called else ""
                raise SettingError(
                    f"`--{name}` has no setting `{part}`.\n{_about(setting)}\n{renamed or _remedy(verb, setting)}"
                )
            if not fits(one, known, fields_of):
                name, kind, value = f"{name}.{part}", known, one
                break
        known = (range_of(name) or range_of(head)) if re.search(r"\b(int|float)\b", kind) else None
        raise SettingError(
            f"`--{name}` must be {in_words(kind)}{f', {known}' if known else ''}, but is {_shown(value)}.\n"
            f"{_about(setting)}\n{_remedy(verb, setting)}"
        )
    value = read(value) if typed and isinstance(value, str) else value
    check_value(verb, name, value, kind, setting, name if range_of(name) else head)


def check_value(verb: str, name: str, value: Any, kind: str, setting: Setting, head: str = "") -> None:
    """Refuse a value of the right type by its range, which may be that of a head, its words, and by being empty.

    Raises:
        SettingError: In three lines.
    """
    remedy = _remedy(verb, setting)
    if name.startswith("trainer."):
        check_trainer(name.removeprefix("trainer."), value)
    head = head or name
    if range_of(head) is not None:
        check_numbers(head, _as_numbers(value, kind), remedy, f"--{name}")
    elif isinstance(value, Mapping):
        for part, one, known in leaves(value, kind, fields_of):
            check_numbers(f"{name}.{part}", _as_numbers(one, known or "str"), remedy, f"--{name}.{part}")
    if name.rpartition(".")[2] == "seed_everything" and isinstance(value, bool):
        raise SettingError(
            f"`--{name}` must be a whole number, but is {str(value).lower()}.\n"
            f"The same command is to find the same numbers.\n{remedy}"
        )
    may_be_empty = name in MAY_BE_EMPTY or (setting.default in ("[]", "{}", "()") and name not in NEVER_EMPTY)
    if isinstance(value, list | tuple | Mapping) and not value and not may_be_empty:
        remedy = "Name some." if name in NEVER_EMPTY else remedy
        raise SettingError(f"`--{name}` is empty.\n{_about(setting)}\n{remedy}")
    words = WORDS.get(name) or WORDS.get(f"{verb} {name}") or ()
    given = value if isinstance(value, list | tuple | Mapping) else [value]
    for word in given if words and value is not None else ():
        if word not in words:
            raise SettingError(
                f"`--{name}` must be of {', '.join(words)}, but {_shown(word)} is none of them.\n{_about(setting)}\n"
                f"{remedy}"
            )
    if name.rpartition(".")[2] == "device" and not DEVICE.fullmatch(str(value)):
        raise SettingError(
            f"`--{name}` must be auto, cpu, mps, cuda or cuda:N, but is {_shown(value)}.\n{_about(setting)}\n{remedy}"
        )


def check_parsed(verb: str, options: Options, config: Mapping[str, Any]) -> None:
    """Refuse values in a parsed configuration, wherever they came from: files within files, the environment.

    Raises:
        SettingError: In three lines.
    """
    given = dict(flat(config, {*options.settings, *(f"trainer.{name}" for name in REFUSED)}))
    for name, value in given.items():
        if name.startswith("trainer.") and name.removeprefix("trainer.") in REFUSED:
            check_trainer(name.removeprefix("trainer."), value)
        elif name in options.settings:
            setting = options.settings[name]
            if str(value) != setting.default:
                check_value(verb, name, value, setting.kind, setting)


def in_our_words(verb: str, options: Options | None, error: str) -> str:
    """Say in three lines what a parser refused; as it says it, where it names no option that we know."""
    key = re.search(r'[Kk]ey "([\w.]+)"', error)
    setting = options.settings.get(key[1]) if options is not None and key else None
    if key is None or setting is None:
        return f"{' '.join(error.split())}\nNothing was done.\n`sa {verb} --help` explains the options."
    strange = re.search(r"does not accept option '([\w.-]+)'", error)
    given = re.findall(r"(?:Given value|Got value): (.*)", error)
    fact = f"has no setting `{strange[1]}`" if strange else f"cannot be {_shown(given[-1]) if given else 'read'}"
    return (
        f"`--{key[1]}` {fact}; it takes {in_words(setting.kind)}.\n{_about(setting)}\n"
        f"`sa {verb} --help` explains the options."
    )


def _as_numbers(value: Any, kind: str) -> Any:
    """The value with numbers that stand there as text, as a config may have them in quotes, read."""
    if isinstance(value, str) and "str" not in kind:
        return read(value)
    if isinstance(value, Mapping):
        return {key: _as_numbers(one, kind) for key, one in value.items()}
    return [_as_numbers(one, kind) for one in value] if isinstance(value, list | tuple) else value


def _about(setting: Setting) -> str:
    """What the help says of an option, to the end of its first sentence."""
    first = re.match(r".*?[^.][.:](?= [A-Z`(]|$)", setting.about)
    said = (first[0] if first else setting.about).rstrip(".:")
    return f"{said[:LONGEST]}…" if len(said) > LONGEST else f"{said or 'The help names it'}."


def _remedy(verb: str, setting: Setting) -> str:
    if setting.default in (None, "null"):
        return f"`sa {verb} --help` explains it." if setting.default is None else "Leave it out, or mend it."
    return f"Leave it out for the default, {setting.default}."


def _shown(value: Any) -> str:
    """A value in a few printable characters."""
    text = str(value)
    text = text if text.isprintable() and text else repr(text)
    return f"{text[:SHOWN]}…" if len(text) > SHOWN else text
