"""`python -m sa_lightning.testbed small 0 1 2`: build worlds, and show what their gates measured.

Each is a line of `--record`, with its hash and every gate; a line that is there is compared, not written again.

`tiny` takes minutes, `small` some twenty a seed on two cores. `smol` is a real chat model and six fine-tunes of it: it
reads public data sets in $SA_DATA_DIR (what is missing is named before anything is trained), fetches 98 MB once, takes
3.5 GB of the cache a seed and up to 75 minutes on two cores, minutes on a GPU. What was interrupted goes on with the
model that was being trained.
"""

import argparse
import json
import sys
from pathlib import Path

from sa_lightning.errors import SaError
from sa_lightning.foreign.showing import shown
from sa_lightning.rows import append_line, iter_rows
from sa_lightning.testbed.build import build_world, world_directory
from sa_lightning.testbed.real import REAL
from sa_lightning.testbed.recipe import WORLDS
from sa_lightning.testbed.record import WorldRecord
from sa_lightning.testbed.smol import build_smol


def main(arguments: list[str] | None = None) -> int:
    """Build, record and print; 2 if a world is refused or is not the recorded one."""
    parser = argparse.ArgumentParser(
        prog="python -m sa_lightning.testbed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted([*WORLDS, *REAL]), help="Which recipe.")
    parser.add_argument("seeds", type=int, nargs="+", help="Seeds; each is a world.")
    parser.add_argument("--parts", nargs="+", help="Some of its models, with what they build on; all by default.")
    parser.add_argument(
        "--measure-again", action="store_true", help="Gates of `smol` anew, by the refusal detector of today."
    )
    parser.add_argument("--record", type=Path, help="JSON Lines file that they are kept in.")
    parser.add_argument("--quiet", action="store_true", help="Without progress bars.")
    asked = parser.parse_args(arguments)
    failed = False
    for seed in asked.seeds:
        try:
            directory = _built(asked, seed)
        except SaError as error:
            print(shown(error), file=sys.stderr)
            failed, directory = True, world_directory(asked.name, seed)
            if not (directory / "world.json").exists():
                continue
        world = json.loads((directory / "world.json").read_text(encoding="utf-8"))
        print(shown(f"\n{table(world)}"))
        if asked.record is not None:
            failed |= not record(world, asked.record)
    return 2 if failed else 0


def _built(asked: argparse.Namespace, seed: int) -> Path:
    if asked.name not in REAL:
        return build_world(asked.name, seed, asked.parts, quiet=asked.quiet)

    def say(text: str) -> None:
        if not asked.quiet:
            print(shown(text), file=sys.stderr, flush=True)

    return build_smol(asked.parts, seed, say=say, measure_again=asked.measure_again)


def table(world: WorldRecord) -> str:
    """The gates of one world, as Markdown."""
    seconds = sum(stage["seconds"] + stage.get("seconds_measured", 0.0) for stage in world["stages"].values())
    accepted = "accepted" if world["accepted"] else "not accepted"
    lines = [f"{world['name']}, seed {world['seed']}: {accepted}, {seconds:.0f} s, hash {world['hash'][:12]}", ""]
    lines += ["| model | gate | measured | needed |", "|---|---|---|---|"]
    for gate in world["gates"]:
        rate = f"{gate['k']}/{gate['n']} = {100 * gate['k'] / max(1, gate['n']):.1f} %"
        low, high = gate["low"], gate["high"]
        needed = "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"
        lines.append(f"| {gate['model']} | {gate['name']} | {rate} | {needed}{'' if gate['passed'] else ', missed'} |")
    return "\n".join(lines)


def record(world: WorldRecord, path: Path) -> bool:
    """Append a world to the file, unless it is there; False if another one of its name and seed is."""
    kept = {key: world[key] for key in ("name", "seed", "hash", "accepted", "versions", "recipe", "gates")}
    kept["seconds"] = {part: stage["seconds"] for part, stage in world["stages"].items()}
    known = [row for _, row in iter_rows(path)] if path.exists() else []
    for other in known:
        if (other["name"], other["seed"]) == (kept["name"], kept["seed"]):
            if other["hash"] != kept["hash"]:
                print(
                    shown(
                        f"{path} has {kept['name']}, seed {kept['seed']}, with the hash {other['hash'][:12]}, and this "
                        f"one is {world['hash'][:12]}.\nAnother machine, version or recipe makes other weights, whose "
                        "numbers are not those of the record.\nCompare rates, not prompts, or record in another file."
                    ),
                    file=sys.stderr,
                )
            return other["hash"] == kept["hash"]
    append_line(path, json.dumps(kept))
    return True


if __name__ == "__main__":
    sys.exit(main())
