"""An edit needs a small part of the memory of flattening the model, and less time.

    python tests/benchmarks/edit_smaller_than_naive.py DIR [REPEATS]

Prints one JSON line, at 0.1 billion parameters: the naive way needs some 20 bytes an entry.
"""

import json
import sys
from pathlib import Path

from synthetic import make
from timing import OURS, compare, edit

if __name__ == "__main__":
    root, repeats = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    base, harm = make("0.1", root)
    out = root / "out"
    naive = [sys.executable, str(Path(__file__).with_name("naive_edit.py")), str(base), str(harm), str(out)]
    torch_alone = [sys.executable, "-c", "import torch, safetensors.torch"]
    found = compare(
        {"edit": (edit(base, harm, out), out), "naive": (naive, out), "ours, imports": (OURS, None),
         "naive, imports": (torch_alone, None)},
        repeats,
    )  # fmt: skip
    above = {name: found[name]["mib"] - found[f"{imports}, imports"]["mib"] for name, imports in
             (("edit", "ours"), ("naive", "naive"))}  # fmt: skip
    ratios = {
        "peak MiB, naive / edit": round(found["naive"]["mib"] / found["edit"]["mib"], 2),
        "peak MiB above imports, naive / edit": round(above["naive"] / above["edit"], 2),
        "seconds, naive / edit": round(found["naive"]["seconds"] / found["edit"]["seconds"], 2),
    }
    print(json.dumps({"claim": Path(__file__).stem, "ratios": ratios, "runs": repeats, "measured": found}))
