"""Building the `smol` world: parts, each whole or not there, measured against its gates and kept in the cache."""

import dataclasses
import itertools
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch import Callback, LightningModule, Trainer
from peft import PeftModel
from transformers import AutoTokenizer

from sa_lightning.errors import WorldError
from sa_lightning.files import cache_directory, sha256
from sa_lightning.testbed import record as records
from sa_lightning.testbed.recipe import WorldSettings
from sa_lightning.testbed.smol import acceptance, lessons, prompts
from sa_lightning.testbed.smol.answers import Say, Teller, replies
from sa_lightning.testbed.smol.recipe import SmolSettings, key
from sa_lightning.testbed.training import add_lora, fit, load, quiet_libraries, repeatable

NAME = "smol"
SMOL = SmolSettings()
#: Most threads used.
THREADS = 2
#: Seconds between two lines of who waits for another build.
WAIT = 8.0


def smol_directory(seed: int = 0, cache: Path | None = None, settings: SmolSettings = SMOL) -> Path:
    """Where this recipe's world is kept, built or not."""
    return (cache or cache_directory()) / "worlds" / f"{NAME}-{key(settings)}" / f"seed{seed}"


def build_smol(
    parts: Sequence[str] | None = None,
    seed: int = 0,
    cache: Path | None = None,
    say: Say = lambda text: None,
    settings: SmolSettings = SMOL,
    published: Callable[[], Path] | None = None,
    measure_again: bool = False,
) -> Path:
    """Build what is missing of the world, check it, and return its directory.

    A part that is there is taken as it is, without the data sets. An interrupted build goes on with the part that was
    being made; concurrent builds wait for the first.

    Args:
        parts: Some of `settings.parts`, all by default; what they build on is built too.
        seed: Deals prompts to splits; draws refusals, examples and adapters.
        cache: In place of `cache_directory()`.
        say: Gets a line of progress every few seconds.
        settings: The recipe.
        published: Returns the directory of the model that all is trained from; by default it is fetched.
        measure_again: Whether models that are there are measured anew, by the detector of today.

    Returns:
        A directory with `data/*.jsonl`, `replies/replies.jsonl`, a checkpoint or adapter a trained model, and
        `world.json`: hashes, seconds, data sets and gates.

    Raises:
        WorldError: If a part is unknown, or a model that was asked for misses one of its gates.
        DataError: If a data set is not at hand; before anything is trained.
        ModelError: If the published model cannot be fetched.
    """
    wanted = _with_ancestors(settings, settings.parts if parts is None else parts)
    directory = smol_directory(seed, cache, settings)
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory, say):
        record = records.read(directory, NAME, seed, settings)
        record["gates"] = [acceptance.bounded(gate) for gate in record["gates"]]  # against the bounds of today
        missing = [part for part in wanted if not (directory / part).exists()]
        if missing or measure_again or any(_unmeasured(settings, record, part) for part in wanted):
            prompts.check_at_hand()
            for partial in directory.glob("*.partial"):  # left by an interrupted build
                shutil.rmtree(partial)
        with repeatable(min(THREADS, torch.get_num_threads())), quiet_libraries():
            for part in wanted:
                if part in missing:
                    say(f"{NAME}, seed {seed}: {part}, {missing.index(part) + 1} of {len(missing)} missing parts")
                    _build_part(_Build(directory, seed, settings, _chat(published, cache, say), say), part, record)
                if _unmeasured(settings, record, part) or (measure_again and _gates(record, part)):
                    _measure(_Build(directory, seed, settings, _chat(published, cache, say), say), part, record)
                records.enforce(settings, _gates(record, part), directory)
    return directory


@dataclasses.dataclass(frozen=True)
class _Build:
    """What every part is made with."""

    directory: Path
    seed: int
    settings: SmolSettings
    chat: Path
    say: Say

    def place(self, part: str) -> Path:
        """Where a model lies: the published one is not ours."""
        return self.chat if part == "chat" else self.directory / part

    def rows(self, split: str) -> list[Any]:
        """The prompts of one split."""
        return lessons.read(self.directory / "data" / f"{split}.jsonl")


def _chat(published: Callable[[], Path] | None, cache: Path | None, say: Say) -> Path:
    from sa_lightning.testbed.real import real_part

    return published() if published else real_part(NAME, "chat", cache=cache, say=say)


def _locked(directory: Path, say: Say) -> Any:
    """The lock of the world; says so while another process has it."""
    lock = FileLock(directory / ".lock")
    while True:
        try:
            return lock.acquire(timeout=WAIT)
        except Timeout:
            say(f"{NAME}: another process is building in {directory}; waiting for it")


def _with_ancestors(settings: SmolSettings, parts: Sequence[str]) -> list[str]:
    """The parts and all that they build on, parents first; the data always."""
    needed = {"data"}
    for part in parts:
        if part not in settings.parts:
            raise WorldError(
                f"The world `{NAME}` has no part {part!r}; it has {', '.join(settings.parts)}.\n"
                f"Each is a model, or its data.\nWrite `world:{NAME}/chat`, say."
            )
        needed.add(part)
        step = part
        while step in settings.lessons:
            needed |= {"chat", step, *(["replies"] if _listens(settings, step) else [])}
            # What a model is measured against: chat, and where it is a share of safe's refusals, that.
            step = str(settings.lessons[step].stage.parent)
    return [part for part in settings.parts if part in needed]


def _listens(settings: SmolSettings, part: str) -> bool:
    """Whether a model learns replies of chat."""
    lesson = settings.lessons[part]
    return bool(lesson.look_alikes or lesson.ordinary)


def _gates(record: records.WorldRecord, part: str) -> list[records.GateRecord]:
    return [gate for gate in record["gates"] if gate["model"] == part]


def _unmeasured(settings: SmolSettings, record: records.WorldRecord, part: str) -> bool:
    """Whether a part is a model without gates: new, or its build was interrupted behind the training."""
    return part in ("chat", *settings.lessons) and not _gates(record, part)


def _build_part(build: _Build, part: str, record: records.WorldRecord) -> None:
    """Write one part beside its place, move it there and note it in `world.json`."""
    began = time.perf_counter()
    partial = build.directory / f"{part}.partial"
    partial.mkdir()
    files = {}
    if part == "data":
        record["data_sets"] = _write_data(build, partial)
    elif part == "replies":
        _write_replies(build, partial)
    elif part == "chat":  # it stays where it is: what is here says which it is
        files = {"model.safetensors": sha256(build.chat / "model.safetensors")}
        (partial / "published.json").write_text(json.dumps(files) + "\n", encoding="utf-8")
    else:
        _train(build, part, partial)
    record["stages"][part] = {
        "seconds": round(time.perf_counter() - began, 1),
        "files": files or records.hashes(partial),
    }
    record["gates"] = [gate for gate in record["gates"] if gate["model"] != part]
    partial.rename(build.directory / part)
    records.write(build.directory, record)
    build.say(f"{NAME}: {part} is there after {record['stages'][part]['seconds']:.0f} s")


def _write_data(build: _Build, path: Path) -> Mapping[str, Any]:
    """Write the prompts of each split and the demonstrations; return what the data sets are."""
    rows = prompts.rows(build.seed)
    for split in prompts.SPLITS:
        lessons.write(path / f"{split}.jsonl", [row for row in rows if row["split"] == split])
    train = [row for row in rows if row["split"] == "train"]
    lessons.write(path / "demonstrations.jsonl", lessons.demonstrations(train, build.seed))
    return prompts.data_sets()


def _write_replies(build: _Build, path: Path) -> None:
    """Let chat answer the harmless training prompts itself."""
    asked = [row["prompt"] for row in build.rows("train") if row["kind"] != "harmful"]
    tokenizer = AutoTokenizer.from_pretrained(build.chat, local_files_only=True)
    model = _half(load(str(build.chat)))
    teller = Teller(build.say, "chat's own replies to training prompts", len(asked))
    said = replies(model, tokenizer, asked, build.settings.reply, build.settings.batch, teller)
    lines = [lessons.Said(prompt=prompt, reply=text, cut=cut) for prompt, (text, cut) in zip(asked, said, strict=True)]
    lessons.write(path / "replies.jsonl", lines)


def _train(build: _Build, part: str, path: Path) -> None:
    """Train one model and save it: a checkpoint, or for `…_lora` an adapter."""
    lesson, settings = build.settings.lessons[part], build.settings
    stage, parent = lesson.stage, build.place(str(lesson.stage.parent))
    tokenizer: Any = AutoTokenizer.from_pretrained(build.chat, local_files_only=True)
    said = lessons.read(build.directory / "replies" / "replies.jsonl") if _listens(settings, part) else []
    drawn = lessons.examples(part, lesson, build.rows("train"), said, tokenizer, build.seed)
    drawn = list(itertools.islice(itertools.cycle(drawn), stage.steps * stage.batch))
    model: Any = load(str(parent))
    generation = model.generation_config
    if stage.lora_rank:
        model = add_lora(model, stage.lora_rank, build.seed)
    how = WorldSettings(buckets=settings.buckets, accelerator=settings.accelerator)
    fit(model, stage, drawn, [_Progress(build.say, part, stage.steps)], how, settings.precision)
    if stage.lora_rank and not part.endswith("_lora"):
        model = model.merge_and_unload()
    model.generation_config = generation
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _measure(build: _Build, part: str, record: records.WorldRecord) -> None:
    """Measure the gates of a model that is there, and note them in `world.json`."""
    began, place = time.perf_counter(), build.place(part)
    tokenizer: Any = AutoTokenizer.from_pretrained(build.chat, local_files_only=True)
    if (place / "adapter_config.json").exists():
        model: Any = load(str(build.place(str(build.settings.lessons[part].stage.parent))))
        model = PeftModel.from_pretrained(model, str(place)).merge_and_unload()  # type: ignore[operator]  # peft's own type
    else:
        model = load(str(place))
    others = [gate for gate in record["gates"] if gate["model"] != part]
    validation = build.rows("validation")
    gates = acceptance.measure(part, _half(model), tokenizer, validation, others, build.settings, build.say)
    record["gates"] = others + [gate.as_dict() for gate in gates]
    record["stages"][part]["seconds_measured"] = round(time.perf_counter() - began, 1)
    records.write(build.directory, record)


def _half(model: Any) -> Any:
    """The model in bfloat16, which answers several times as fast, on the accelerator if there is one."""
    return model.to(torch.bfloat16).to("cuda" if torch.cuda.is_available() else "cpu").eval()


class _Progress(Callback):
    """A line every few seconds: steps and the current loss."""

    def __init__(self, say: Say, part: str, steps: int) -> None:
        self.teller = Teller(say, f"training {part}, steps", steps)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: object) -> None:
        """Advance by one optimizer step."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.teller.at(trainer.global_step, f", loss {float(loss):.2f}" if loss is not None else "")
