"""`make hostile`: all of the attack, resumable, with its figures as Markdown tables."""

import argparse
import json
import logging
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from . import chunks, forked, inputs, run_table, table
from .forked import HANG

SEED = 20260
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")
#: How many of each part: in full, and in the sample of `make test`.
SIZES = {
    "table": (0, 80), "artifacts": (10_000, 400), "checkpoints": (2_000, 100), "rows": (1_000, 300),
    "kills": (1_000, 14), "signals": (300, 6), "disks": (150, 6), "together": (60, 4),
}  # fmt: skip
QUICK = ("fit", "validate", "predict", "edit, shards", "judge")  # commands that the sample disturbs
FUZZED = ("artifacts", "checkpoints", "rows")


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the parts that are asked for, go on where they were interrupted, and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m hostile.attack", description=__doc__)
    parser.add_argument(
        "--place", type=Path, required=True, help="Directory for inputs and results; a run goes on there."
    )
    parser.add_argument("--parts", default=",".join(SIZES), help="Which, with commas between.")
    parser.add_argument("--sample", action="store_true", help="A few of each, as in `make test`.")
    parser.add_argument("--only", default="", help="Of the table, cases whose name holds this.")
    parser.add_argument(
        "--share", default="0/1", help="i/n: of the numbers, every n-th from i on, for several processes."
    )
    parser.add_argument("--jobs", type=int, default=1, help="Commands of the table that run at a time.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--page", type=Path, help="Write the tables to this file, too.")
    parser.add_argument("--print", action="store_true", help="Run nothing: print the figures of what is there.")
    given = parser.parse_args(arguments)
    place = given.place.absolute()
    place.mkdir(parents=True, exist_ok=True)
    if not given.print:
        logging.disable(logging.WARNING)
        forked.load()
        for part in given.parts.split(","):
            run(part, place, given)
    text = page({part: _results(place, part) for part in given.parts.split(",")})
    if given.page:
        given.page.write_text(text, encoding="utf-8")
    print(text)
    return 1 if "**" in text else 0


def run(part: str, place: Path, given: argparse.Namespace) -> None:
    """Run what is not there yet of a part."""
    first, step = map(int, given.share.split("/"))
    root = inputs.write_inputs(place / f"in-{part}-{first}" / "inputs")
    inputs.write_configs(root)
    journal = place / f"{part}-{first}.jsonl"
    known = run_table.load(journal)
    count = SIZES[part][given.sample]
    began, done = time.monotonic(), [0]
    with journal.open("a", encoding="utf-8") as file:

        def note(result: dict) -> None:
            file.write(json.dumps(result) + "\n")
            file.flush()
            done[0] += 1
            if done[0] % 100 == 0:
                print(f"{part}: {done[0]} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

        if part == "table":
            cases = [case for case in table.cases() if given.only in case.name]
            cases = run_table.sample(cases, count, given.seed) if count else cases
            there = {(result["verb"], result["wrong"]) for result in known}
            waiting = [case for case in cases[first::step] if (case.verb, case.wrong) not in there]
            run_table.run(waiting, root, HANG, given.jobs, note)
        else:
            there = {result["n"] for result in known}
            numbers = [number for number in range(count) if number % step == first and number not in there]
            if numbers:
                _numbered(part, root, numbers, given, note)
        file.write("")
    took = place / f"{part}-{first}.seconds"
    took.write_text(str((float(took.read_text()) if took.exists() else 0.0) + time.monotonic() - began))


def _numbered(
    part: str, root: Path, numbers: list[int], given: argparse.Namespace, note: Callable[[dict], None]
) -> None:
    if part in FUZZED:
        from . import fuzz_artifacts, fuzz_checkpoints, fuzz_rows

        module = {"artifacts": fuzz_artifacts, "checkpoints": fuzz_checkpoints, "rows": fuzz_rows}[part]
        chunks.run(numbers, module.worker(root, given.seed), note)
        return
    from . import kills

    references = kills.References(root, [*QUICK] if given.sample else None)
    hows = {"kills": ("kill",), "signals": SIGNALS, "disks": ("full", "full", "read-only")}.get(part, ())
    for number in numbers:
        if part == "together":
            note(kills.together(references, given.seed, number))
        else:
            note(kills.tried(references, given.seed, number, hows[number % len(hows)]))


def _results(place: Path, part: str) -> tuple[list[dict], float]:
    found = [result for path in sorted(place.glob(f"{part}-*.jsonl")) for result in run_table.load(path)]
    return found, sum(float(path.read_text()) for path in place.glob(f"{part}-*.seconds"))


def page(results: dict[str, tuple[list[dict], float]]) -> str:
    """Write the figures as Markdown; what should be 0 and is not stands in bold."""
    from importlib.metadata import version

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "safetensors"))
    parts = [f"Commit {commit or 'unknown'}, Python {platform.python_version()}, {versions}; one CPU thread.\n"]
    if results.get("table", ([], 0))[0]:
        found, took = results["table"]
        parts += ["### Wrong inputs\n", *_table(
            ("verb", "n", "right", "refused in words", "of these in over three lines", "tracebacks", "hangs over 10 s", "died", "without a word", "does what it should not", "exit 0 where it should refuse", "other than expected"),
            [(row["verb"], row["n"], row["right"], row["refused"], row["long"], *(_zero(row[key]) for key in ("traceback", "hang", "died", "silent", "wrong", "passed", "bad"))) for row in run_table.figures(found)],
        ), f"\n{took:.0f} s.\n"]  # fmt: skip
    rows = []
    for part in FUZZED:
        found, took = results.get(part, ([], 0.0))
        if found:
            kinds = Counter(result["kind"] for result in found)
            rows.append(
                (
                    part,
                    len(found),
                    kinds["right"],
                    kinds["refused"],
                    *(_zero(kinds[kind]) for kind in chunks.WORSE),
                    f"{took:.0f}",
                )
            )
    if rows:
        parts += [
            "### Mutated files\n",
            *_table(("what", "n", "right", "refused", "wrong values", "other errors", "hangs", "deaths", "s"), rows),
            "",
        ]
    rows = []
    for part in ("kills", "signals", "disks", "together"):
        found, _ = results.get(part, ([], 0.0))
        if found:
            from .kills import figures

            for row in figures(found):
                rows.append(
                    (
                        row["how"],
                        row["command"],
                        row["n"],
                        *(
                            _zero(row[key])
                            for key in ("half", "changed", "lost", "leftovers", "unsaid", "untold", "said")
                        ),
                    )
                )
    if rows:
        head = (
            "what",
            "command",
            "n",
            "half results",
            "changed numbers",
            "lost files",
            "leftovers",
            "refused without saying what is there",
            "ended without a word",
            "the command after it fails",
        )
        parts += ["### Kills, signals, disks\n", *_table(head, rows), ""]
    return "\n".join(parts)


def _zero(count: int) -> str:
    return f"**{count}**" if count else "0"


def _table(head: tuple, rows: list[tuple]) -> list[str]:
    line = "|" + "|".join(["---", *["--:"] * (len(head) - 1)]) + "|"
    return [f"| {' | '.join(head)} |", line, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


if __name__ == "__main__":
    sys.exit(main())
