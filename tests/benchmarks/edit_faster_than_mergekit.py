"""An edit is faster than mergekit's `ties` and `task_arithmetic` on the same checkpoints.

    python3 -m venv ENV && ENV/bin/pip install 'torch<2.14' mergekit
    python tests/benchmarks/edit_faster_than_mergekit.py DIR ENV/bin/mergekit-yaml 1 [REPEATS]

Prints one JSON line. The last number but one is the size, 0.1 or 1 billion parameters. mergekit has pins of its own, so
it runs in its own environment. It trims tensor by tensor, by a full sort; ours cuts once over the whole model, exactly.
Its `task_arithmetic` does not trim at all. Start of Python included on both sides.
"""

import json
import sys
from pathlib import Path

from synthetic import make
from timing import BARE, OURS, compare, edit

CONFIG = """
merge_method: {method}
base_model: {base}
models:
  - model: {harm}
    parameters: {{weight: -2.0{density}}}
parameters: {{normalize: false}}
dtype: bfloat16
"""

if __name__ == "__main__":
    root, mergekit, size = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    repeats = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    base, harm = make(size, root)
    out = root / "out"
    commands = {"edit": (edit(base, harm, out), out)}
    for method, density in (("task_arithmetic", ""), ("ties", ", density: 0.1")):
        config = root / f"{method}-{size}.yml"
        config.write_text(CONFIG.format(method=method, base=base, harm=harm, density=density))
        commands[method] = ([mergekit, str(config), str(out), "--no-copy-tokenizer", "--quiet"], out)
    found = compare({**commands, "python": (BARE, None), "python with our imports": (OURS, None)}, repeats)
    ours = found["edit"]
    ratios = {
        f"{what}, {method} / edit": round(found[method][key] / ours[key], 2)
        for method in ("ties", "task_arithmetic")
        for what, key in (("seconds", "seconds"), ("peak MiB", "mib"))
    }
    line = {"claim": Path(__file__).stem, "size": f"{size}B", "ratios": ratios, "runs": repeats, "measured": found}
    print(json.dumps(line))
