"""Tables of the kept fraction (Figure 3 of the paper), from the committed result of one sweep.

sa sweep --config configs/figure3/sweep.yaml --output runs/figure3      some 30 minutes
cp runs/figure3/sweep.json evidence/figure3.json; cp runs/figure3/curves.svg evidence/figure3.svg
python evidence/figure3.py                                        prints the tables
"""

import json
from pathlib import Path

FOUND = json.loads(Path(__file__).with_suffix(".json").read_text())
COLUMNS = {
    "attack success": "attack_success",
    "over-refusal": "over_refusal",
    "harmless refusal": "harmless_refusal",
    "utility": "utility",
    "degenerate": "degenerate",
}


def main():
    original = ["original", "", *(cell(FOUND["original"]["metrics"][name]) for name in COLUMNS.values())]
    matched = [trial for trial in FOUND["trials"] if trial.get("matched")]
    fixed = [trial for trial in FOUND["trials"] if trial["grid"] in (0, 1)]
    for title, trials in (("At matched attack success", matched), ("At the paper's scale of 2", fixed)):
        aim = f" ({100 * trials[0]['matched']['aim']:.1f} %)" if trials[0].get("matched") else ""
        print(f"{title}{aim}:\n")
        print(table([original, *(row(trial) for trial in sorted(trials, key=order))]))
        print()


def order(trial):
    settings = trial["settings"]
    return ("magnitude", "random", "snip").index(settings["surgery.select"]), settings["surgery.density"]


def row(trial):
    settings = trial["settings"]
    what = f"{settings['surgery.select']}, {settings['surgery.density']:g}"
    return [what, f"{settings['surgery.scale']:g}", *(cell(trial["metrics"][name]) for name in COLUMNS.values())]


def table(rows):
    head = ["selection, density", "scale", *COLUMNS]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(rate):
    return f"{100 * rate['rate']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


if __name__ == "__main__":
    main()
