"""Kills, signals and full disks, at seeded moments: nothing half, and the same command then gives the same numbers."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import forked, mutate
from .case import Case
from .inputs import environment

LONG = 60.0
COMMANDS = {
    "fit": (2, Case("fit", "")),
    "fit, surgery": (2, Case("fit", "", {"--surgery.harm": "{root}/harm"})),
    "validate": (2, Case("validate", "")),
    "predict": (4, Case("predict", "")),
    "edit": (3, Case("edit", "")),
    "edit, shards": (5, Case("edit", "", {"--base": "{root}/sharded", "--harm": "{root}/shardedharm"})),
    "judge": (4, Case("judge", "")),
    "sweep": (2, Case("sweep", "")),
    "compare": (1, Case("compare", "")),
    "export": (2, Case("export", "")),
    "quickstart": (0.4, Case("quickstart", "")),
}
WATCHED = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
GROWING = ("journal.log", "rows.jsonl", ".sa.jsonl")  # a line at a time, finished or not
COMPARED = (".json", ".jsonl", ".safetensors", ".pt")
ENDS = {".svg": "</svg>", ".html": "</html>", ".json": "}", ".jsonl": "}"}


def watching(act: Callable[[int], None]) -> Callable[[], None]:
    """Return what lets a fork call `act` with the number of each change of files that it is about to make."""

    def before() -> None:
        count = 0

        def hook(event: str, arguments: tuple) -> None:
            nonlocal count
            if event == "open":
                path, _, flags = arguments
                if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                    return
            elif event in WATCHED:
                path = arguments[0]
            else:
                return
            if str(path).startswith(("/dev/", "/proc/")):
                return
            count += 1
            act(count)

        sys.addaudithook(hook)

    return before


class References:
    """What each command gives when nobody disturbs it: its files, its numbers, how long it takes."""

    def __init__(self, root: Path, names: list[str] | None = None) -> None:
        self.root, self.known = root, {}
        for name in names or COMMANDS:
            self.known[name] = self._made(name)

    def _made(self, name: str) -> dict:
        found = []
        with tempfile.TemporaryDirectory(dir=self.root.parent, prefix="whole-") as temporary:
            for count in range(2):
                place = Path(temporary) / str(count) / "here"
                place.mkdir(parents=True)
                counted = place.parent / "count"
                typed = COMMANDS[name][1].typed(self.root, place)
                before = {str(path.relative_to(place)): _content(path, place) for path in _files(place)}
                ended = forked.run(
                    typed, place, LONG, environment(self.root), watching(lambda n, to=counted: _note(to, n))
                )
                if ended.kind != "right":
                    raise RuntimeError(f"{name} does not run at all: {ended.kind}\n{ended.err[-2000:]}")
                files = {str(path.relative_to(place)): _content(path, place) for path in _files(place)}
                size = sum(path.stat().st_size + 4096 for path in _files(place))
                found.append((files, ended.seconds, int(counted.read_text()), before, size))
        (one, first, count, before, size), (other, second, *_) = found
        volatile = {file: _differences(one[file], other.get(file)) for file in one}
        return {
            "files": one,
            "volatile": volatile,
            "seconds": min(first, second),
            "changes": count,
            "before": before,
            "bytes": size,
        }

    def differences(self, name: str, file: str, content: Any) -> list[tuple]:
        """Where a file holds something else than it should, but for what differs from run to run."""
        known = self.known[name]
        return sorted(_differences(known["files"][file], content) - known["volatile"][file], key=str)


def _note(path: Path, number: int) -> None:
    """Write a number to a file that is opened once: the hook would hear of it again."""
    descriptor = _OPEN.get(path)
    if descriptor is None:
        _OPEN[path] = -1  # while it is opened
        descriptor = _OPEN[path] = os.open(path, os.O_WRONLY | os.O_CREAT)
    if descriptor >= 0:
        os.pwrite(descriptor, f"{number:9}".encode(), 0)


_OPEN: dict[Path, int] = {}


def _files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]


def _content(path: Path, place: Path) -> Any:
    """What is compared of a file: JSON as JSON, tensors as bytes; of others, whether they are whole."""
    if path.suffix not in COMPARED:
        text = path.read_bytes().decode(errors="replace").rstrip()
        return {"whole": bool(text) and text.endswith(ENDS.get(path.suffix, ""))}
    if path.suffix in (".safetensors", ".pt"):
        return path.read_bytes().hex() if path.suffix == ".safetensors" else _pickled(path)
    try:
        text = re.sub(r"overwrite: true", "overwrite: false", path.read_text().replace(str(place), "HERE"))
        found = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        return _told_otherwise(found)
    except ValueError:
        return {"whole": False}


def _told_otherwise(found: Any) -> Any:
    """JSON without what was typed, which may say `--overwrite` now, the commit, and how long it took."""
    if isinstance(found, dict):
        return {
            key: _told_otherwise(value) for key, value in found.items() if key not in ("command", "commit", "seconds")
        }
    return [_told_otherwise(value) for value in found] if isinstance(found, list) else found


def _pickled(path: Path) -> Any:
    import torch

    try:
        return repr(torch.load(path, weights_only=True))
    except Exception:
        return {"whole": False}


def _differences(one: Any, other: Any, at: tuple = ()) -> set[tuple]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {path for key in one for path in _differences(one[key], other[key], (*at, key))}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return {
            path for key, (a, b) in enumerate(zip(one, other, strict=True)) for path in _differences(a, b, (*at, key))
        }
    return set() if one == other or (one != one and other != other) else {at}


HOWS = ("kill", "SIGTERM", "SIGINT", "SIGHUP", "full", "read-only")


def planned(seed: int, number: int, names: list[str] | None = None) -> tuple[str, random.Random]:
    """Return the command of a number, and the draw of the moment."""
    draw = mutate.drawn(seed, number)
    names = [*(names or COMMANDS)]
    return draw.choices(names, [COMMANDS[name][0] for name in names])[0], draw


def tried(references: References, seed: int, number: int, how: str) -> dict:
    """Disturb a command once, look at what is there, run it again, and say what became of it."""
    name, draw = planned(seed, number, [*references.known])
    known, root, case = references.known[name], references.root, COMMANDS[name][1]
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix="disturbed-"))
    place = temporary / "here"
    place.mkdir()
    mounted = how in ("full", "read-only") and _mount(place)
    found = {"n": number, "command": name, "how": how}
    try:
        typed = case.typed(root, place)
        ended, at = _disturbed(draw, how, typed, place, known, root, mounted)
        found["at"] = at
        if mounted:
            _remount(place, "rw,size=256m")
        half = [*_half(references, name, place)]
        told = _told(how, ended)
        again = forked.run(typed, place, LONG, environment(root))
        unsaid = again.status == 2 and not _names_finished(again.message, place)
        finished = again.status == 2 and not unsaid
        if finished and case.verb not in ("compare", "export") and _lacking(references, name, place):
            again = forked.run([*typed, "--overwrite", "true"], place, LONG, environment(root))
            finished = False
        found |= {
            "ended": ended.kind, "half": half, "untold": told, "unsaid": again.message[-400:] if unsaid else "",
            "again": again.kind, "said": "" if again.status == 0 or finished or unsaid else (again.message or again.err[-400:])[-400:],
            **_compared(references, name, place),
        }  # fmt: skip
        bad = half or told or unsaid or found["said"] or found["changed"] or found["leftovers"] or found["lost"]
        return {**found, "good": not bad}
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)
        shutil.rmtree(temporary, ignore_errors=True)


def _disturbed(draw, how, typed, place, known, root, mounted) -> tuple[forked.Ended, str]:
    if how in ("full", "read-only"):
        used = sum(-(-path.stat().st_size // 4096) + 1 for path in place.rglob("*"))  # tmpfs has pages of 4 KiB
        size = 4 * (used + draw.randint(1, max(2, known["bytes"] // 4096)))
        if mounted:
            _remount(place, "ro" if how == "read-only" else f"rw,size={size}k")
            return forked.run(typed, place, LONG, environment(root)), f"{size} KiB" if how == "full" else ""
        number = draw.randint(1, known["changes"])
        code = errno.EROFS if how == "read-only" else errno.ENOSPC
        return forked.run(
            typed,
            place,
            LONG,
            environment(root),
            watching(lambda n: _raise(code, n, 1 if how == "read-only" else number)),
        ), str(number)
    sent = signal.SIGKILL if how == "kill" else getattr(signal, how)
    if draw.random() < 0.6:
        number = draw.randint(1, known["changes"])
        before = watching(lambda n: os.kill(os.getpid(), sent) if n == number else None)
        return forked.run(typed, place, LONG, environment(root), before), f"change {number}"
    moment = draw.random() * 1.05 * known["seconds"]
    process = forked.Running(typed, place, environment(root))
    while (ended := process.ended()) is None and time.monotonic() - process.began < moment:
        time.sleep(0.002)
    if ended is None:
        process.send(sent)
        ended = process.wait(LONG)
    return ended, f"after {moment:.2f} s"


def _raise(code: int, number: int, start: int) -> None:
    if number >= start:
        raise OSError(code, os.strerror(code))


def _told(how: str, ended: forked.Ended) -> str:
    """What is wrong with how it ended; nothing, if nothing is."""
    if how == "kill":
        return "" if ended.status in (-signal.SIGKILL, 0) else f"status {ended.status}: {ended.err[-300:]}"
    if ended.traceback:
        return f"traceback: {ended.err.strip().splitlines()[-1][-200:]}"
    if ended.status is None:
        return "hang"
    if how.startswith("SIG"):
        # before `sa` has begun, or after it has ended, the signal is the system's to answer
        outside = ended.status in (-getattr(signal, how), 0)
        said = "ended by" in ended.err or "interrupted" in ended.err
        return "" if outside or (ended.status == 1 and said) else f"status {ended.status}: {ended.err[-300:]}"
    return "" if ended.kind in ("right", "refused", "failed") else f"{ended.kind}: {ended.err[-300:]}"


def _half(references: References, name: str, place: Path):
    known = references.known[name]
    for path in _files(place):
        file = str(path.relative_to(place))
        hidden = any(part.startswith(".") or part == "unfinished" for part in Path(file).parts)
        if hidden or path.name in GROWING or file not in known["files"]:
            continue
        content = _content(path, place)
        if references.differences(name, file, content) and known["before"].get(file) != content:
            yield file


def _lacking(references: References, name: str, place: Path) -> bool:
    files = references.known[name]["files"]
    return any(not (place / file).is_file() for file in files) or bool([*_half(references, name, place)])


def _names_finished(message: str, place: Path) -> bool:
    """Whether a refusal names something that is there."""
    there = [str(path.relative_to(place)) for path in place.rglob("*") if not path.name.startswith(".")]
    return any(name in message for name in there)


def _compared(references: References, name: str, place: Path) -> dict:
    known = references.known[name]
    there = {str(path.relative_to(place)): path for path in _files(place)}
    own = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_symlink()} | {*there}
    changed = [
        f"{file} {at}"
        for file in there
        if file in known["files"] and Path(file).name not in GROWING
        for at in references.differences(name, file, _content(there[file], place))[:3]
    ]  # fmt: skip
    return {
        "changed": changed,
        "leftovers": sorted(own - {*known["files"]}),
        "lost": sorted({*known["files"]} - {*there}),
    }


def _mount(place: Path) -> bool:
    if os.geteuid() != 0:
        return False
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, check=False
    )
    return done.returncode == 0


def _remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], capture_output=True, check=True)


def together(references: References, seed: int, number: int) -> dict:
    """Start a command into the output of one that is under way: one of the two is refused, the other does what it does."""
    name, draw = planned(seed, number, [*references.known])
    known, root, case = references.known[name], references.root, COMMANDS[name][1]
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix="together-"))
    place = temporary / "here"
    place.mkdir()
    at = 1 + int(draw.random() ** 2 * known["changes"])  # rather early than late
    reached, go = os.open(temporary / "reached", os.O_WRONLY | os.O_CREAT), temporary / "go"

    def wait(count: int) -> None:
        if count == at:
            os.write(reached, b"x")
            while not go.exists():
                time.sleep(0.01)

    try:
        typed = case.typed(root, place)
        first = forked.Running(typed, place, environment(root), watching(wait), name="first")
        while not os.fstat(reached).st_size and first.poll() is None:
            time.sleep(0.005)
        second = forked.run(typed, place, LONG, environment(root))
        go.touch()
        ended = first.wait(LONG)
        found = {
            "n": number,
            "command": name,
            "how": "two at once",
            "at": f"change {at} of {known['changes']}",
            "half": [],
            "unsaid": "",
        }
        # Whoever comes first to the lock; the other has nothing to do with it. Rows of `compare` may be shared out,
        # and `sweep` finds nothing left to do where the first has made its last change.
        continues = case.verb == "compare" or (case.verb == "sweep" and at == known["changes"])
        fine = sorted([ended.kind, second.kind]) in (["failed", "right"], ["refused", "right"])
        fine = fine or (continues and ended.kind == second.kind == "right")
        wrong = f"the first: {ended.kind} {ended.err[-200:]}; the second: {second.kind} {second.err[-200:]}"
        untold = "" if fine else wrong
        found |= {"untold": untold, "said": "", "again": "", "ended": ended.kind, **_compared(references, name, place)}
        return {**found, "good": not (untold or found["changed"] or found["leftovers"] or found["lost"])}
    finally:
        os.close(reached)
        shutil.rmtree(temporary, ignore_errors=True)


def figures(results: list[dict]) -> list[dict]:
    """Count by what was done, and by command."""
    rows = []
    for how in [*dict.fromkeys(result["how"] for result in results)]:
        for command in [*dict.fromkeys(r["command"] for r in results if r["how"] == how), "all"]:
            those = [r for r in results if r["how"] == how and command in (r["command"], "all")]
            rows.append({
                "how": how, "command": command, "n": len(those),
                **{key: sum(bool(r[key]) for r in those) for key in ("half", "changed", "lost", "leftovers", "unsaid", "untold", "said")},
                "bad": sum(not r["good"] for r in those),
            })  # fmt: skip
    return rows
