"""Settings of surgery, steering and demonstrations by their dotted names: set, listed, made into callbacks."""

import copy
from functools import lru_cache
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from sa_lightning.callbacks import ExtractionCallback, SurgeryCallback
from sa_lightning.datamodules import DemonstrationDataModule

__all__ = ["PARTS", "add_parts", "differing", "made", "with_settings"]

PARTS = ("surgery", "steering", "data")


def add_parts(parser: ArgumentParser) -> None:
    """Add the options of a surgery, of a direction, and of the pairs that it is fitted on, which may be missing."""
    parser.add_class_arguments(SurgeryCallback, "surgery")
    parser.add_class_arguments(ExtractionCallback, "steering")
    parser.add_class_arguments(DemonstrationDataModule, "data", skip={"demonstrations"}, instantiate=False)
    parser.add_argument(
        "--data.demonstrations", type=str | None, default=None, help="Pairs to fit directions on, for steered arms."
    )


def with_settings(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of nested settings with some of them set, by their dotted names."""
    found: dict[str, Any] = copy.deepcopy(config)
    for name, value in settings.items():
        *groups, last = name.split(".")
        place = found
        for group in groups:
            if place.get(group) is None:
                place[group] = {}
            place = place[group]
        place[last] = copy.deepcopy(value)  # parsing fills in what is left out
    return found


def differing(config: dict[str, Any], settings: dict[str, Any], prog: str) -> dict[str, dict[str, Any]]:
    """Return what differs from the defaults, part by part, under these settings; unknown ones are refused.

    Raises:
        ArgumentError: By the parser, which names the setting.
    """
    parser = _parser(prog)
    parsed, plain = parser.parse_object(_parts(config, settings)).as_dict(), _plain(prog)
    found = {part: {name: _plainly(value) for name, value in parsed[part].items()} for part in PARTS}
    return {
        part: {name: value for name, value in found[part].items() if value != _plainly(plain[part].get(name))}
        for part in PARTS
    }


def made(config: dict[str, Any], settings: dict[str, Any], prog: str) -> Any:
    """Make the callbacks `surgery` and `steering` under these settings, and `data`, which is None without pairs.

    Raises:
        ArgumentError: By the parser, which names a setting that is unknown or has a value that cannot be.
        SettingError: If a value cannot be meant.
    """
    parser = _parser(prog)
    parsed: Any = parser.parse_object(_parts(config, settings))
    data = parsed.data.as_dict()
    found: Any = parser.instantiate_classes(parsed)
    found.data = DemonstrationDataModule(**data) if data["demonstrations"] else None
    return found


def _plainly(value: Any) -> Any:
    """What jsonargparse makes of data classes inside dictionaries, as dictionaries alone."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, dict):
        value = value.get("init_args", value) if "class_path" in value else value
        value = _plainly(value) if isinstance(value, Namespace) else value
        return {name: _plainly(found) for name, found in value.items() if not name.startswith("__")}
    return [_plainly(found) for found in value] if isinstance(value, list | tuple) else value


@lru_cache
def _parser(prog: str) -> ArgumentParser:
    parser = ArgumentParser(prog=prog, exit_on_error=False)
    add_parts(parser)
    return parser


@lru_cache
def _plain(prog: str) -> dict[str, Any]:
    return _parser(prog).get_defaults().as_dict()


def _parts(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return with_settings({part: config[part] for part in PARTS}, settings)
