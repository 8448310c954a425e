"""An edit of a billion parameters takes a small multiple of reading its inputs and writing its output.

    python tests/benchmarks/edit_near_the_read_write_floor.py DIR [REPEATS]

Prints one JSON line. DIR is where checkpoints of 5 GB in all are made and results written. Each command is run in turn:
the floor, ours at 1 billion, ours at 0.1 billion; start of Python included.
"""

import json
import sys
from pathlib import Path

from synthetic import make
from timing import BARE, OURS, compare, edit

if __name__ == "__main__":
    root, repeats = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    (base, harm), (small_base, small_harm) = make("1", root), make("0.1", root)
    out = root / "out"
    floor = [sys.executable, str(Path(__file__).with_name("floor.py"))]
    found = compare(
        {
            "floor": ([*floor, str(base), str(harm), str(out)], out),
            "edit": (edit(base, harm, out), out),
            "floor at 0.1": ([*floor, str(small_base), str(small_harm), str(out)], out),
            "edit at 0.1": (edit(small_base, small_harm, out), out),
            "python": (BARE, None),
            "python with our imports": (OURS, None),
        },
        repeats,
    )
    above = {size: found[f"edit{size}"]["mib"] - found["python with our imports"]["mib"] for size in ("", " at 0.1")}
    ratios = {
        "seconds, edit / floor at 1B": round(found["edit"]["seconds"] / found["floor"]["seconds"], 2),
        "the same without the start of Python": round(
            (found["edit"]["seconds"] - found["python with our imports"]["seconds"])
            / (found["floor"]["seconds"] - found["python"]["seconds"]),
            2,
        ),
        "peak MiB above our imports, 1B / 0.1B": round(above[""] / above[" at 0.1"], 2),
        "peak MiB above bare Python at 1B": found["edit"]["mib"] - found["python"]["mib"],
    }
    print(json.dumps({"claim": Path(__file__).stem, "ratios": ratios, "runs": repeats, "measured": found}))
