"""Reading the states of pairs takes about the time of the bare decoder, and less time and memory than peers take.

    python3 -m venv ENV && ENV/bin/pip install 'torch<2.14' 'transformers>=5,<6' 'numpy<2' scikit-learn
    ENV/bin/pip install --no-deps steering-vectors==0.12.2 repeng==0.4.0 gguf
    python tests/benchmarks/extraction_near_the_bare_backbone.py DIR [--pairs N] [--repeats R] [--peers ENV/bin/python]

Prints one JSON line. DIR is where the model is made (`random_llama.py`). Each arm of `extraction_arms.py` runs in a
fresh process, in turn, the order turned by one each time; seconds and peak memory are those of the reading alone, from
texts to states, after the model is loaded and two pairs are read as a warm-up. Keeping every token is measured at few
pairs only, as it would not fit otherwise; what it needs at 1,000 is a line through these, and is called extrapolated.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from random_llama import make, texts

PEERS = ["steering_vectors", "steering_vectors_16", "repeng"]
SAME = 1e-3  # of states in float32; in bfloat16 they differ by more, as batches are made up differently


def run(arm: str, pairs: int, model: Path, settings: argparse.Namespace, states: Path) -> dict[str, float]:
    python = settings.peers if arm in PEERS else sys.executable
    command = [python, Path(__file__).with_name("extraction_arms.py"), arm, model, pairs, settings.question]
    command += [settings.device, settings.batch_tokens, states]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arm} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def largest_differences(mine: Path, theirs: Path) -> dict[str, float]:
    """Compare states layer by layer; behind the last block some peers read after the final norm."""
    with np.load(mine) as a, np.load(theirs) as b:
        shared = [(list(a["layers"]).index(layer), place) for place, layer in enumerate(b["layers"])]
        found = [float(np.abs(a["states"][:, :, i] - b["states"][:, :, j]).max()) for i, j in shared]
        last = int(b["layers"][-1]) == int(a["layers"][-1])
        return {"layers": len(found), "below the last": max(found[:-1]), **({"the last": found[-1]} if last else {})}


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    seconds = [run["states_seconds"] for run in runs]
    found = {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    found["seconds with the fit"] = statistics.median(run["seconds"] for run in runs)
    found |= {key: max(run[key] for run in runs) for key in ("mib", "gpu_mib") if key in runs[0]}
    return {key: round(value, 2) for key, value in found.items()}


def ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    mine = found["ours"]
    line = {
        f"seconds, {arm} / floor": found[arm]["seconds"] / found["floor"]["seconds"]
        for arm in ("ours", "ours_unshared")
        if "floor" in found
    }
    for arm, theirs in found.items():
        for what in ("seconds", "mib", "gpu_mib"):
            if arm != "ours" and what in theirs and (arm, what) != ("floor", "seconds"):
                line[f"{what}, {arm} / ours"] = theirs[what] / mine[what]
    return {key: round(value, 2) for key, value in line.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", help="Python of the peers; without it they are left out")
    parser.add_argument("--question", choices=["conversation", "turn"], default="conversation")
    parser.add_argument("--batch-tokens", type=int, default=1024, help="of ours and of the floor")
    parser.add_argument("--few", type=int, nargs=2, default=[50, 100], help="pairs at which every token is kept")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    settings = parser.parse_args()
    model = make(settings.root, settings.device)
    arms = ["ours", "ours_unshared", "floor", "hidden_states", *(PEERS if settings.peers else [])]
    versions, differences = {}, {}

    with tempfile.TemporaryDirectory() as directory:
        file = lambda arm, pairs: Path(directory) / f"{arm}-{pairs}.npz"  # noqa: E731  # one line, for one use

        def compared(arms: list[str], pairs: int, repeats: int) -> dict[str, dict[str, float]]:
            runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
            for repeat in range(repeats):
                turn = repeat % len(arms)
                for arm in arms[turn:] + arms[:turn]:
                    runs[arm].append(run(arm, pairs, model, settings, file(arm, pairs)))
                    versions[arm] = runs[arm][-1].pop("versions")
            for arm in set(arms) - {"ours", "floor"}:
                found = largest_differences(file("ours", pairs), file(arm, pairs))
                differences[f"{arm}, {pairs} pairs"] = found
                if settings.device == "cpu" and not found["below the last"] < SAME:
                    raise SystemExit(f"{arm} reads other states than ours: {found}")
            return {arm: summary(found) for arm, found in runs.items()}

        found = compared(arms, settings.pairs, settings.repeats)
        few = {pairs: compared(["ours", "every_token"], pairs, 1) for pairs in settings.few}

    # Everything is padded to the longest text of all: what is kept grows with pairs × longest, what a batch of 8 needs
    # with longest alone. So MiB / longest is a line in pairs.
    longest = {n: max(len(side.split()) for pair in texts(n, settings.question) for side in pair) for n in [*few, 1000]}
    fit = np.polyfit(list(few), [few[n]["every_token"]["mib"] / longest[n] for n in few], 1)
    line = {
        "claim": Path(__file__).stem,
        "model": model.name,
        "pairs": settings.pairs,
        "question": settings.question,
        "ratios": ratios(found),
        "ratios with every token kept": {f"{pairs} pairs": ratios(line) for pairs, line in few.items()},
        "runs": settings.repeats,
        "measured": found,
        "measured with every token kept": few,
        "extrapolated MiB with every token kept, 1000 pairs": round(float(np.polyval(fit, 1000)) * longest[1000]),
        "largest differences of states from ours": differences,
        "batch_tokens": settings.batch_tokens,
        "versions": versions,
    }
    print(json.dumps(line))
