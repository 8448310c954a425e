"""Cases of the attack before that ask for more than a status: what is there afterwards is looked at."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file, save_file
from support.models import llama, saved

from . import broken_models
from .broken_models import SHARD
from .case import Case
from .forked import Ended

NOTES = b"years of work"
ESCAPE = "\x1b]52;c;aGE=\x07"


def before() -> Iterator[Case]:
    """Yield them."""
    yield Case(
        "edit", "nothing of others is replaced by a shard", {"--base": "{here}/evil/ck", "--harm": "{root}/shardedharm", "--output": "{here}/mine/edited"},
        known="F1", files={"evil/ck": _traversing, "mine/notes.md": NOTES}, check=_keeps("mine/notes.md"),
    )  # fmt: skip
    yield Case(
        "edit", "no link out of a checkpoint is followed", {"--base": "{here}/linked"}, known="F3", files={"linked": _linked},
        check=lambda place, ended: "a secret is in the output" if any("mine" in p.read_text(errors="ignore") for p in place.glob("out/*.txt")) else "",
    )  # fmt: skip
    yield Case(
        "predict",
        "a gate that is not a number",
        {"--artifact": "{here}/artifact"},
        known="F5",
        files={"artifact": _gate_of_nan},
    )
    yield Case(
        "validate", "an artifact that records where scores are written", {"--artifact": "{here}/artifact", "--evaluation.limit": "1"}, "either",
        "F10", {"artifact": _with_scores}, check=lambda place, ended: "it wrote there" if (place / "elsewhere").exists() else "",
    )  # fmt: skip
    yield Case(
        "predict", "replies are for their owner alone", {}, "right", "F11",
        check=lambda place, ended: "others may read them" if (place / "out" / "predictions.jsonl").stat().st_mode & 0o077 else "",
    )  # fmt: skip
    yield Case(
        "predict", "replies with escapes are shown, not obeyed", {"--model.target": "{here}/loud", "--artifact": None}, "right", "F12",
        {"loud": _loud}, check=lambda place, ended: "the terminal got one" if "\x1b]52" in ended.out + ended.err else "",
    )  # fmt: skip
    yield Case(
        "judge", "labels with escapes are shown, not obeyed", {"--input": "{here}/rows.jsonl"}, "either", "F12",
        {"rows.jsonl": json.dumps({"prompt": "how", "response": "no .", "arm": ESCAPE, "kind": ESCAPE}).encode() + b"\n"},
        check=lambda place, ended: "the terminal got one" if "\x1b]52" in ended.out + ended.err else "",
    )  # fmt: skip
    for verb, option in (
        ("predict", "--data.file"),
        ("judge", "--input"),
        ("edit", "--base"),
        ("export", "--artifact"),
        ("fit", "--data.demonstrations"),
    ):
        yield Case(
            verb, "a path with escapes is shown, not obeyed", {option: f"{{here}}/{ESCAPE}.jsonl"}, "refused", "F12",
            check=lambda place, ended: "the terminal got one" if "\x1b]52" in ended.out + ended.err else "",
        )  # fmt: skip
    for name in ("gate-photo.svg", "vocabulary.svg"):
        yield Case(
            "fit",
            f"{name} of its user is kept",
            {},
            "either",
            "F8",
            {f"out/{name}": NOTES},
            check=_keeps(f"out/{name}"),
        )
        changed: dict[str, str | None] = {"--overwrite": "true"}
        yield Case(
            "fit",
            f"{name} of its user is kept when overwriting",
            changed,
            "either",
            "F8",
            {f"out/{name}": NOTES},
            check=_keeps(f"out/{name}"),
        )
    for verb, name in (
        ("sweep", "chosen.yaml"),
        ("compare", "compare.md"),
        ("validate", "report.html"),
        ("predict", "predict.yaml"),
    ):
        yield Case(
            verb, f"{name} of its user is kept", {}, "either", "F8", {f"out/{name}": NOTES}, check=_keeps(f"out/{name}")
        )
    yield Case(
        "edit",
        "a web site is no output",
        {"--overwrite": "true"},
        "refused",
        "F9",
        {"out/config.json": b"{}", "out/thesis.tex": NOTES},
        check=_keeps("out/thesis.tex"),
    )
    yield Case(
        "validate", "a partial run reaches no card", {"--trainer.limit_val_batches": "1"}, "refused", "F22",
        check=lambda place, ended: "the card has it" if "Measured by" in (place / "artifact" / "README.md").read_text() else "",
    )  # fmt: skip
    yield Case(
        "fit",
        "what a kill left between two renames",
        {"--overwrite": "true"},
        "right",
        "F26",
        {"out/.artifact.old/x": b""},
    )
    text = b'prompt\n"how\ndo i"\n'
    yield Case(
        "predict",
        "line breaks in a cell",
        {"--data.file": "{here}/q.csv"},
        "right",
        "F27",
        {"q.csv": text},
        check=_asked("how\ndo i"),
    )
    yield Case(
        "predict",
        "prompts in JSON",
        {"--data.file": "{here}/q.json"},
        "right",
        "F27",
        {"q.json": b'["how"]'},
        check=_asked("how"),
    )


def _keeps(name: str):
    def check(place: Path, ended: Ended) -> str:
        path = place / name
        return "" if path.is_file() and path.read_bytes() == NOTES else f"{name} is gone, or another"

    return check


def _asked(prompt: str):
    def check(place: Path, ended: Ended) -> str:
        path = place / "out" / "predictions.jsonl"
        found = (
            [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").splitlines()]
            if path.exists()
            else []
        )
        return "" if found == [prompt] else f"asked {found}"

    return check


def _traversing(path: Path, root: Path) -> None:
    shutil.copytree(root / "sharded", path)
    (path / SHARD).rename(path.parent / "notes.md")
    broken_models.placed("../notes.md")(path)


def _linked(path: Path, root: Path) -> None:
    shutil.copytree(root / "base", path)
    (path.parent / "secret").write_text("mine")
    (path / "vocab.txt").symlink_to(path.parent / "secret")


def _gate_of_nan(path: Path, root: Path) -> None:
    from sa_lightning.steering.artifact.format import digests

    shutil.copytree(root / "artifact_gate", path)
    held = load_file(path / "steering.safetensors")
    held = {name: tensor * float("nan") if name.endswith("gate") else tensor for name, tensor in held.items()}
    save_file(held, path / "steering.safetensors")
    config = json.loads((path / "sa_config.json").read_text())
    (path / "sa_config.json").write_text(json.dumps({**config, "tensors": digests(held)}))


def _with_scores(path: Path, root: Path) -> None:
    """An artifact of a surgery whose record says where scores are."""
    import dataclasses

    from sa_lightning.surgery import EditSettings

    shutil.copytree(root / "artifact", path)
    config = json.loads((path / "sa_config.json").read_text())
    settings = {**dataclasses.asdict(EditSettings()), "select": "snip"}
    sources = {"scores": str(path.parent / "elsewhere"), "prompts": str(root / "scored.jsonl")}
    record = {"base": str(root / "base"), "harm": str(root / "harm"), "settings": settings, "sources": sources}
    (path / "sa_config.json").write_text(json.dumps({**config, "surgery": record}, default=str))


def _loud(path: Path, root: Path) -> None:
    """A model all of whose words are escapes."""
    saved(llama(), path)
    found = json.loads((path / "tokenizer.json").read_text())
    words = found["model"]["vocab"]
    special = {one["content"] for one in found["added_tokens"]}
    found["model"]["vocab"] = {
        word if word in special else f"{ESCAPE}{number}": number for word, number in words.items()
    }
    (path / "tokenizer.json").write_text(json.dumps(found))
