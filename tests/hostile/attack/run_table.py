"""The table of wrong inputs, run: what every verb did of every case, as a line of JSON each."""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import forked
from .case import Case
from .inputs import environment

ALLOWED = {
    "refused": ("refused",), "failed": ("failed",), "stopped": ("refused", "failed"), "right": ("right",),
    "either": ("right", "refused"),
}  # fmt: skip


def judged(case: Case, ended: forked.Ended, left: Sequence[str]) -> dict:
    """Say what became of a case, as JSON has it."""
    kind = ended.kind
    lines = len(ended.message.splitlines())
    return {
        "verb": case.verb, "wrong": case.wrong, "expect": case.expect, "known": case.known, "kind": kind,
        "good": kind in ALLOWED[case.expect], "lines": lines, "seconds": round(ended.seconds, 2),
        "left": [*left] if kind != "right" else [],
        "said": (ended.message or ended.err[-300:])[-600:] if kind != "right" else "",
        **({"trace": [*ended.err.splitlines(), ""][-2][-300:] if not ended.message else ended.err.strip().splitlines()[-1][-300:]} if kind == "traceback" else {}),
    }  # fmt: skip


def run(cases: Iterable[Case], root: Path, seconds: float = forked.HANG, jobs: int = 1, done=None) -> list[dict]:
    """Run cases, so many at a time.

    Args:
        cases: Which.
        root: Where the inputs are.
        seconds: How long one may take.
        jobs: How many run at a time.
        done: Called with the result of each as soon as it is there.
    """
    waiting, running, found = [*cases][::-1], [], []
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="cases-") as places:
        count = 0
        while waiting or running:
            while waiting and len(running) < jobs:
                case, place = waiting.pop(), Path(places) / str(count) / "here"
                count += 1
                place.mkdir(parents=True)
                try:
                    typed = case.typed(root, place)
                except UnicodeEncodeError:
                    continue
                before = _files(place)
                running.append(
                    (case, place, before, forked.Running(typed, place, {**environment(root), **case.environment}))
                )
            time.sleep(0.003)
            for one in [*running]:
                case, place, before, process = one
                over = time.monotonic() - process.began
                limit = seconds if case.wrong and case.expect != "right" else 6 * seconds
                ended = process.ended(over > limit)
                if ended is None:
                    continue
                running.remove(one)
                result = judged(case, ended, sorted(_files(place) - before))
                if case.check is not None and (wrong := case.check(place, ended)):
                    result |= {"good": False, "kind": "wrong", "said": wrong}
                found.append(result)
                if done is not None:
                    done(result)
                shutil.rmtree(place.parent, ignore_errors=True)
    return found


def _files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def sample(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Return some cases: of every number of the attack before one at least, and of every verb its good command."""
    draw = random.Random(seed)
    shuffled = draw.sample([*cases], len(cases))
    always = [case for case in shuffled if not case.wrong]
    seen: set[str] = set()
    for case in shuffled:
        if case.known and not {*case.known.split()} <= seen:
            seen.update(case.known.split())
            always.append(case)
    rest = [case for case in shuffled if case not in always]
    return [*always, *rest[: max(0, count - len(always))]]


def figures(results: Sequence[dict]) -> list[dict]:
    """Count by verb: cases, refused in words, tracebacks, hangs, exit 0 where it should refuse, and other mistakes."""
    rows = []
    verbs = [*dict.fromkeys(result["verb"] for result in results)]
    for verb in [*verbs, "all"]:
        those = [result for result in results if verb in (result["verb"], "all")]
        bad = [result for result in those if not result["good"]]
        kinds = {
            kind: sum(result["kind"] == kind for result in those)
            for kind in ("traceback", "hang", "died", "silent", "wrong")
        }
        rows.append({
            "verb": verb, "n": len(those), "right": sum(r["kind"] == "right" and r["good"] for r in those),
            "refused": sum(r["kind"] in ("refused", "failed") and r["good"] for r in those),
            "long": sum(r["kind"] == "refused" and r["lines"] > 3 for r in those),
            "left": sum(bool(r["left"]) and r["kind"] == "refused" for r in those), **kinds,
            "passed": sum(r["kind"] == "right" for r in bad), "bad": len(bad),
        })  # fmt: skip
    return rows


def load(path: Path) -> list[dict]:
    """Read the results of an earlier run that was interrupted."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
