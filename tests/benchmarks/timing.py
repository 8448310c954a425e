"""A command's wall time and peak memory, side by side with others in one run."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

BARE = [sys.executable, "-c", "pass"]
OURS = [sys.executable, "-c", "import sa_lightning.cli.edit"]


def run(command: list[str], output: Path | None = None) -> tuple[float, float]:
    """Seconds and MiB (the peak resident set of the process itself) of a command; its output is removed afterwards."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{said.decode()[-2000:]}")
    if output is not None:
        shutil.rmtree(output)
    return took, usage.ru_maxrss / 1024


def compare(commands: dict[str, tuple[list[str], Path | None]], repeats: int) -> dict[str, dict[str, float]]:
    """Run commands in turn, several times over, and return the median seconds and the largest memory of each."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, (command, output) in commands.items():
            found[name].append(run(command, output))
    return {
        name: {
            "seconds": round(statistics.median(seconds for seconds, _ in runs), 2),
            "fastest": round(min(seconds for seconds, _ in runs), 2),
            "slowest": round(max(seconds for seconds, _ in runs), 2),
            "mib": round(max(memory for _, memory in runs)),
        }
        for name, runs in found.items()
    }


def edit(base: Path, harm: Path, output: Path) -> list[str]:
    """Our command."""
    sa = str(Path(sys.executable).with_name("sa"))
    return [sa, "edit", f"--base={base}", f"--harm={harm}", f"--output={output}", "--density=0.1", "--scale=2"]
