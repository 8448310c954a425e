"""Settings of surgery, steering, demonstrations and prompting by their dotted names: set, listed, made into objects."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.datamodules import DemonstrationDataModule
from sa_lightning.errors import SettingError
from sa_lightning.evaluation import Prompting
from sa_lightning.fitting import SteeringSettings
from sa_lightning.steering import GateSettings, RuleSettings
from sa_lightning.surgery import Scope

__all__ = [
    "MODEL_PARTS",
    "PARTS",
    "Config",
    "Settings",
    "add_parts",
    "check_each_rule",
    "differing",
    "made",
    "with_settings",
]

MODEL_PARTS = ("surgery", "steering", "data")  # what is done to a model
PARTS = (*MODEL_PARTS, "prompting")

Settings = dict[str, Any]
"""Settings by their dotted names, such as `surgery.scale`; or, of one part, by their names there."""

Config = dict[str, Any]
"""A configuration as YAML has it, part by part."""


def add_parts(parser: ArgumentParser, parts: Sequence[str]) -> None:
    """Add the options of a surgery, of a direction, and of the pairs that it is fitted on, which may be missing.

    Args:
        parser: Takes them.
        parts: `MODEL_PARTS`; or `PARTS`, for the options of an instruction, too.
    """
    parser.add_class_arguments(SurgeryCallback, "surgery")
    parser.add_class_arguments(SteeringSettings, "steering")
    parser.add_class_arguments(DemonstrationDataModule, "data", skip={"demonstrations"}, instantiate=False)
    parser.add_argument(
        "--data.demonstrations", type=str | None, default=None, help="Pairs to fit directions on, for steered arms."
    )
    if "prompting" in parts:
        parser.add_class_arguments(Prompting, "prompting", instantiate=False)


def with_settings(config: Config, settings: Settings) -> Config:
    """Return a copy of nested settings with some of them set, by their dotted names."""
    found: Config = copy.deepcopy(config)
    for name, value in settings.items():
        *groups, last = name.split(".")
        place = found
        for group in groups:
            if place.get(group) is None:
                place[group] = {}
            place = place[group]
        place[last] = copy.deepcopy(value)  # parsing fills in what is left out
    return found


def differing(config: Config, settings: Settings, prog: str) -> dict[str, Settings]:
    """Return what differs from the defaults, part by part, under these settings; unknown ones are refused.

    Inside gates, rules and scopes, too.

    Raises:
        ArgumentError: By the parser, which names the setting.
    """
    parts = _there(config)
    parsed = _parser(prog, parts).parse_object(_parts(config, settings)).as_dict()
    plain = _plain(prog, parts)
    found = {part: {name: _plainly(value) for name, value in parsed[part].items()} for part in parts}
    found = {
        part: {name: value for name, value in found[part].items() if value != _default(plain, part, name)}
        for part in parts
    }
    if "steering" in found:
        found["steering"] = _on_record(found["steering"])
    if "scope" in found.get("surgery", {}):
        found["surgery"]["scope"] = _unlike(Scope(), found["surgery"]["scope"])
    return found


def _on_record(steering: dict[str, Any]) -> dict[str, Any]:
    """Settings of steering in the words of rows on record, so that these are found: `parts` for rules, and others."""
    found = {name: value for name, value in steering.items() if name not in ("rules", "gate")}
    if "gate" in steering:
        found["gate"] = _gate_on_record(_unlike(GateSettings(), steering["gate"]))
    if found.get("direction") == "principal":  # the default, named
        del found["direction"]
    if steering.get("rules"):
        rules = {name: _unlike(RuleSettings(), rule) for name, rule in steering["rules"].items()}
        found["parts"] = {
            name: {**rule, **({"gate": _gate_on_record(rule["gate"])} if "gate" in rule else {})}
            for name, rule in rules.items()
        }
        if "direction" not in steering:
            found["direction"] = "none"
            found.pop("strength", None)
    return found


def _gate_on_record(gate: dict[str, Any]) -> dict[str, Any]:
    return {GATE_ON_RECORD.get(name, name): value for name, value in gate.items()}


#: What the settings of a gate were called when rows on record were measured.
GATE_ON_RECORD = {
    "positive": "finds",
    "negative": "against",
    "exempt": "spares",
    "positive_factor": "found",
    "negative_factor": "others",
}
#: What rows on record mean where they name none of these, which had other defaults when they were measured.
ON_RECORD = {"steering": {"strength": 0.12, "unit": "state", "sinks": None}}


def _default(plain: Config, part: str, name: str) -> Any:
    """The default of a setting, for the identity of a row."""
    recorded = ON_RECORD.get(part, {})
    return recorded[name] if name in recorded else _plainly(plain[part].get(name))


def made(config: Config, settings: Settings, prog: str) -> Any:
    """Make `surgery`, the callback `steering` under these settings, and what may be missing, which is then None.

    That is `data`, without pairs, and `prompting`, without an instruction.

    Raises:
        ArgumentError: By the parser, which names a setting that is unknown or has a value that cannot be.
        SettingError: If a value cannot be meant.
    """
    parser = _parser(prog, _there(config))
    parsed: Any = parser.parse_object(_parts(config, settings))
    check_each_rule(parsed.steering.rules or {})
    data, prompting = parsed.data.as_dict(), parsed.get("prompting")
    found: Any = parser.instantiate(parsed)
    found.surgery = found.surgery.surgery  # the plain object: no trainer runs an experiment
    found.data = DemonstrationDataModule(**data) if data["demonstrations"] else None
    found.prompting = Prompting(**prompting.as_dict()) if prompting and prompting.instruction is not None else None
    return found


def check_each_rule(rules: Mapping[str, Any]) -> None:
    """Refuse settings of one of `steering.rules` under its name; jsonargparse would list all that a rule could be.

    Raises:
        SettingError: If a value cannot be meant.
    """
    for name, rule in rules.items():
        given = rule.as_dict()
        try:
            RuleSettings(**{**given, "gate": GateSettings(**given["gate"])})
        except SettingError as error:
            raise SettingError(f"`steering.rules.{name}`: {error}") from error


def _unlike(default: Any, told: Settings) -> Settings:
    """What differs from the defaults of a data class, which may get more settings without a row becoming another."""
    known = _plainly(dataclasses.asdict(default))
    return {
        name: _unlike(getattr(default, name), value) if isinstance(value, dict) else value
        for name, value in told.items()
        if value != known.get(name)
    }


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
def _parser(prog: str, parts: tuple[str, ...]) -> ArgumentParser:
    parser = ArgumentParser(prog=prog, exit_on_error=False)
    add_parts(parser, parts)
    return parser


@lru_cache
def _plain(prog: str, parts: tuple[str, ...]) -> Config:
    return _parser(prog, parts).get_defaults().as_dict()


def _there(config: Config) -> tuple[str, ...]:
    """The parts that a verb has: prompting is no part of a sweep."""
    return tuple(part for part in PARTS if part in config)


def _parts(config: Config, settings: Settings) -> Config:
    return with_settings({part: config[part] for part in _there(config)}, settings)
