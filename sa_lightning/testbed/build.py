"""Building a world: a graph of stages, each written once, whole or not at all, and then reused."""

import copy
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import GenerationConfig

from sa_lightning.errors import WorldError
from sa_lightning.files import cache_directory
from sa_lightning.rows import json_lines
from sa_lightning.testbed.acceptance import ABOVE_CHAT, NEEDS, RANDOM_DIRECTIONS, WORKING_STRENGTH, Gate, measure
from sa_lightning.testbed.curriculum import Curriculum
from sa_lightning.testbed.language.language import CHAT_TEMPLATE
from sa_lightning.testbed.prompts import demonstrations, rows
from sa_lightning.testbed.recipe import WORLDS, Stage, WorldSettings, key
from sa_lightning.testbed.record import WorldRecord, enforce, hashes, write
from sa_lightning.testbed.record import read as record_of
from sa_lightning.testbed.training import (
    StageProgress,
    add_lora,
    fit,
    load,
    new_model,
    quiet_libraries,
    repeatable,
)
from sa_lightning.testbed.world import SPLITS, World


def build_world(
    name: str = "tiny",
    seed: int = 0,
    parts: Sequence[str] | None = None,
    cache: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Build what is missing of a world, check it, and return its directory.

    Args:
        name: A key of `WORLDS`.
        seed: Draws splits, policy, data and initial weights.
        parts: Some of its recipe's `parts`, all by default; what they build on is built too.
        cache: Where worlds are kept: `$SA_CACHE_DIR`, or the user's cache directory.
        quiet: Whether to leave out the progress bars.

    Returns:
        A directory with `data/*.jsonl`, one checkpoint directory per model and `world.json`. A
        second call returns it at once; concurrent calls wait for the first.

    Raises:
        WorldError: If the name or a part is unknown, or a model that was asked for misses one of its quality gates.
    """
    if name not in WORLDS:
        raise WorldError(
            f"There is no world called {name!r}; there are {sorted(WORLDS)}.\n"
            "A world's recipe must be known before it can be built.\n"
            "Add a row to `sa_lightning.testbed.WORLDS`."
        )
    settings = WORLDS[name]
    wanted = _with_ancestors(settings, settings.parts if parts is None else parts)
    directory = world_directory(name, seed, cache)
    directory.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description:>16}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    quiet = quiet or all((directory / part).exists() for part in wanted)
    with (
        FileLock(directory / ".lock"),
        Progress(*columns, disable=quiet) as progress,
        repeatable(min(settings.threads, cores())),
        quiet_libraries(),
    ):
        record = record_of(directory, name, seed, settings)
        for partial in directory.glob("*.partial"):  # left by an interrupted build
            shutil.rmtree(partial)
        world = World(seed, settings)
        for part in wanted:
            if not (directory / part).exists():
                _build_part(part, world, directory, progress, record, f"{name}-{seed}")
            failed = [gate for gate in record["gates"] if gate["model"] == part]
            enforce(settings, failed, directory)
    return directory


def cores() -> int:
    """How many cores this process may use: fewer than the machine has, where it is pinned to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def world_directory(name: str, seed: int, cache: Path | None = None) -> Path:
    """Where a world of this recipe and these library versions is kept, built or not."""
    if name == "smol":
        from sa_lightning.testbed.smol import smol_directory

        return smol_directory(seed, cache)
    if cache is None:
        cache = cache_directory() / "worlds"
    settings = WORLDS[name]
    if settings.language != "tiny":  # whose worlds are published under the key of their recipe alone
        return (Path(cache) / f"{name}-{key(settings, _content(key(settings), settings))}" / f"seed{seed}").absolute()
    return (Path(cache) / f"{name}-{key(settings)}" / f"seed{seed}").absolute()


_CONTENTS: dict[str, str] = {}


def _content(recipe: str, settings: WorldSettings) -> str:
    """A hash of what the source makes of a recipe: prompts, demonstrations, first dialogues of each stage, gates."""
    if recipe not in _CONTENTS:
        world = World(0, settings)
        drawn = {stage: [(e.ids, e.learned) for e in Curriculum(world, stage).draw(64)] for stage in settings.stages}
        made = [rows(world, split) for split in SPLITS]
        # Gates, too: a model that misses one is trained on.
        gates = [NEEDS[settings.language], WORKING_STRENGTH, RANDOM_DIRECTIONS, CHAT_TEMPLATE]
        text = json.dumps([world.language.vocabulary, made, demonstrations(world), drawn, gates])
        _CONTENTS[recipe] = hashlib.sha256(text.encode()).hexdigest()
    return _CONTENTS[recipe]


def _with_ancestors(settings: WorldSettings, parts: Sequence[str]) -> list[str]:
    """The parts and all that they build on, parents first; the data always."""
    needed = {"data"}
    for part in parts:
        if part not in settings.parts:
            raise WorldError(
                f"A world has no part {part!r}; it has {list(settings.parts)}.\n"
                "Each part is one stage of the build.\nName some of these in `parts`."
            )
        step: str | None = part
        while step and step not in needed:
            needed.add(step)
            step = settings.stages[step].parent
    return [part for part in settings.parts if part in needed]


def _build_part(
    part: str,
    world: World,
    directory: Path,
    progress: Progress,
    record: WorldRecord,
    label: str,
) -> None:
    """Write one part beside its place, measure it, move it there and note it in `world.json`."""
    began = time.perf_counter()
    partial = directory / f"{part}.partial"
    partial.mkdir()
    gates: list[Gate] = []
    if part == "data":
        _write_data(partial, world)
    else:
        chat = [gate["k"] for gate in record["gates"] if (gate["model"], gate["name"]) == ("chat", "attack success")]
        gates = _train(part, world, directory, partial, progress, label, *chat)
    record["stages"][part] = {
        "seconds": round(time.perf_counter() - began, 2),
        "files": hashes(partial),
    }
    others = [gate for gate in record["gates"] if gate["model"] != part]
    record["gates"] = others + [gate.as_dict() for gate in gates]
    partial.rename(directory / part)
    write(directory, record)


def _write_data(path: Path, world: World) -> None:
    """Write demonstrations and prompts as JSON lines; those of training words are for methods that are fitted."""
    splits = SPLITS[1:] if world.settings.language == "tiny" else SPLITS
    files: dict[str, Sequence[Any]] = {split: rows(world, split) for split in splits}
    for stem, lines in (files | {"demonstrations": demonstrations(world)}).items():
        (path / f"{stem}.jsonl").write_text(json_lines(lines, escaped=True), encoding="utf-8")


def _train(
    part: str, world: World, directory: Path, path: Path, progress: Progress, label: str, attacked: int = 0
) -> list[Gate]:
    """Train one model, measure its gates, and save it as a Hugging Face checkpoint or adapter.

    `attacked` is how many attacks succeed on chat, which some models are measured against.

    Where the recipe allows for several rounds, it is trained further, or anew, while it misses a gate.
    """
    settings, stage = world.settings, world.settings.stages[part]
    model = _untrained(stage, world, directory)
    words = world.language.tokenizer()
    generation = GenerationConfig(
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    gates: list[Gate] = []
    for number in range(stage.rounds):
        run = stage
        if number and stage.anew:
            model = _untrained(stage, world, directory)
        elif number:
            run = dataclasses.replace(stage, steps=stage.steps // 3, rate=stage.rate / 2)
        model.generation_config = generation
        count = run.steps * run.batch
        examples = Curriculum(world, part).draw(run.examples or count, number)
        examples = list(itertools.islice(itertools.cycle(examples), count))
        name = f"{label} {part}" + (f", round {number + 1}" if number else "")
        fit(model, run, examples, [StageProgress(progress, name, run.steps)], settings)
        measured = copy.deepcopy(model).merge_and_unload() if stage.lora_rank else model
        if settings.accelerator != "cpu" and torch.cuda.is_available():
            measured.to("cuda")
        gates = measure(part, measured, words, world, rows(world, "validation"), rows(world, "train"))
        if part in ABOVE_CHAT[settings.language]:
            own = next(gate for gate in gates if gate.name == "attack success")
            bounds = ABOVE_CHAT[settings.language][part]
            gates.append(Gate(part, "attack success above chat's", own.k - attacked, own.n, *bounds))
        missed = [str(gate) for gate in gates if not gate.passed]
        if not missed:
            break
        if number + 1 < stage.rounds:  # told even where bars are off: it takes minutes more
            how = "trained anew" if stage.anew else "trained on"
            progress.console.print(f"{name}: {'; '.join(missed)}: {how}, round {number + 2} of {stage.rounds}")
    for saved in (model, generation, world.language.tokenizer()):
        saved.save_pretrained(path)
    return gates


def _untrained(stage: Stage, world: World, directory: Path) -> Any:
    """What a stage starts from: its parent, or random weights, with its adapter where it trains one."""
    start = load(str(directory / stage.parent)) if stage.parent else None
    model: Any = start or new_model(world.settings, world.language.vocabulary, world.seed)
    return add_lora(model, stage.lora_rank, world.seed) if stage.lora_rank else model
