"""`world.json`: what a world is made of, how long it took, how good it is, and a hash of it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

from sa_lightning.errors import WorldError
from sa_lightning.files import json_digest, sha256, write_whole
from sa_lightning.testbed.recipe import versions


class GateRecord(TypedDict):
    """A gate: k of n, which must lie from `low` to `high`, if these are set."""

    model: str
    name: str
    k: int
    n: int
    low: float | None
    high: float | None
    passed: bool


class BuiltPart(TypedDict):
    """A part that is there."""

    seconds: float
    files: dict[str, str]
    seconds_measured: NotRequired[float]


class WorldRecord(TypedDict):
    """What `world.json` holds; `write` finds the last three."""

    name: str
    seed: int
    recipe: Mapping[str, Any]
    versions: dict[str, str]
    stages: dict[str, BuiltPart]
    gates: list[GateRecord]
    data_sets: NotRequired[Mapping[str, Any]]
    accepted: bool
    complete: bool
    hash: str


class Recipe(Protocol):
    """What is written down of any recipe."""

    @property
    def parts(self) -> tuple[str, ...]: ...

    @property
    def enforce_gates(self) -> bool: ...

    def as_dict(self) -> Mapping[str, Any]: ...


def read(directory: Path, name: str, seed: int, settings: Recipe) -> WorldRecord:
    """The world's record so far, without the stages whose directories are gone."""
    path = directory / "world.json"
    fresh = {"name": name, "seed": seed, "recipe": settings.as_dict(), "versions": versions()}
    record: Any = fresh | {"stages": {}, "gates": []}
    if path.exists():
        record |= json.loads(path.read_text(encoding="utf-8"))
    for part in [part for part in record["stages"] if not (directory / part).exists()]:
        del record["stages"][part]
        record["gates"] = [gate for gate in record["gates"] if gate["model"] != part]
    for part in settings.parts:  # interrupted between the rename and the record: build it again
        if part not in record["stages"] and (directory / part).exists():
            shutil.rmtree(directory / part)
    return record


def write(directory: Path, record: WorldRecord) -> None:
    """Write `world.json`, complete or not at all."""
    files = {f"{part}/{f}": h for part, s in record["stages"].items() for f, h in s["files"].items()}
    unmeasured = set(record["recipe"]["stages"]) & set(record["stages"]) - {gate["model"] for gate in record["gates"]}
    record["accepted"] = not unmeasured and all(gate["passed"] for gate in record["gates"])
    record["complete"] = set(record["recipe"]["stages"]) <= set(record["stages"])
    record["hash"] = json_digest(files)
    write_whole(directory / "world.json", json.dumps(record, indent=2) + "\n")


def hashes(path: Path) -> dict[str, str]:
    """SHA-256 of the files that make the part what it is; paths inside configs are left out."""
    names = sorted([*path.glob("*.safetensors"), *path.glob("*.jsonl"), *path.glob("tokenizer.json")])
    return {file.name: sha256(file) for file in names}


def enforce(settings: Recipe, gates: list[GateRecord], directory: Path) -> None:
    """Refuse a model that misses a gate, with what was measured and what is needed."""
    missed = [gate for gate in gates if not gate["passed"]]
    if not (missed and settings.enforce_gates):
        return
    lines = [
        f"- {g['model']}: {g['name']} is {g['k']}/{g['n']} = {g['k'] / max(1, g['n']):.1%}, "
        f"need {g['low']:.0%} to {g['high']:.0%}"
        for g in missed
    ]
    raise WorldError(
        f"The world in {directory} misses a quality gate on its validation prompts:\n"
        + "\n".join(lines)
        + "\nA method measured on a world that failed its own gates shows nothing about the method."
        + "\nTake another seed, or train longer (`WorldSettings.stages`); with "
        "`enforce_gates=False` the gates are recorded only."
    )
