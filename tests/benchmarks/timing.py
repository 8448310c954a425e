"""A command's wall time and peak memory, side by side with others in one run."""

import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

BARE = [sys.executable, "-c", "import time; time.sleep(0.2)"]
OURS = [sys.executable, "-c", "import sa_lightning.cli.edit, time; time.sleep(0.2)"]
SLEPT = 0.2  # so that the memory of what only starts is seen


def run(command: list[str], output: Path | None = None) -> tuple[float, float]:
    """Seconds and peak MiB of a command; its output is removed afterwards.

    Memory is the proportional set (PSS) of the process and its children together, looked at every 100 ms: pages
    that several of them share are counted once, mapped files as far as they are resident.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = [0.0]

    def look() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], sum(map(proportional, family(process.pid))))
            time.sleep(0.1)  # looking costs time, too

    looking = threading.Thread(target=look)
    looking.start()
    _, said = process.communicate()
    took = time.perf_counter() - began
    looking.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{said.decode()[-2000:]}")
    if output is not None:
        shutil.rmtree(output)
    return took - (SLEPT if command in (BARE, OURS) else 0), peak[0]


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def proportional(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def compare(commands: dict[str, tuple[list[str], Path | None]], repeats: int) -> dict[str, dict[str, float]]:
    """Run commands in turn, several times over, and return the median seconds and the largest memory of each.

    Everything is run once beforehand, unmeasured, so that all files are in the page cache.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, (command, output) in commands.items():
            result = run(command, output)
            if repeat:
                found[name].append(result)
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
