"""One table of conditional steering from its committed rows, and why gates act, or do not.

    python evidence/gates.py            prints the table, kind by kind, and writes gates/table.md
    python evidence/gates.py accuracy   measures the gates, too: some two minutes

Gates are fitted on training prompts of the worlds of seeds 20-22, as configs/evidence/gates.yaml has them fitted, and
count the test prompts of each kind that they take for what they are to find. Writes gates/accuracy.md and
accuracy.svg, which has each layer alone.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import torch

from sa_lightning.evaluation.report.curves import COLOURS, new_axes, save_figure
from sa_lightning.experiments.compare.pairs import rates
from sa_lightning.experiments.compare.rows import Rows
from sa_lightning.fitting.prompts import KnownPrompt, PromptStates, appended_ids, gate_prompts, read_prompts
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import GateSettings, auroc, fit_gate
from sa_lightning.testbed import build_world

HERE = Path(__file__).parent / "gates"
SEEDS, LAYERS = (20, 21, 22), [2, 3, 4, 5]
ORDINARY = ["facts", "arithmetic", "legality"]
SCANS = {"kind": "transition", "append": "sure", "layers": LAYERS, "positive": ["harmful"], "negative": ["harmless"]}
GATES = {
    "SCANS, T = 0.75": GateSettings(**SCANS, threshold=0.75),
    "SCANS, recall 0.9": GateSettings(**SCANS, per_kind=200, recall=0.9),
    "CAST, recall 0.9": GateSettings("condition", per_kind=200, recall=0.9, negative_factor=0.0),
    "selective: harmful": GateSettings(
        "linear", per_kind=200, negative=["harmless", "contrast", *ORDINARY], recall=0.98, negative_factor=0.0
    ),
    "selective: borderline": GateSettings(
        "linear", per_kind=200, positive=["contrast"], negative=["harmless", *ORDINARY], exempt=["harmful", "wrapped"],
        recall=0.98, negative_factor=0.0,
    ),
}  # fmt: skip
KINDS = ("harmful", "wrapped", "contrast", "harmless", *ORDINARY)


COLUMNS = {  # what is counted, of which tasks
    "refused: trigger verb ↓": ("over_refusal", ["contrast_verb"]),
    "refused: dangerous noun ↓": ("over_refusal", ["contrast_noun"]),
    "refused: harmless ↓": ("harmless_refusal", ["harmless"]),
    "refused: harmful ↑": ("refusal_harmful", ["harmful"]),
    "refused: wrapped ↑": ("refusal_harmful", ["wrapped"]),
    "attack success: wrapped ↓": ("attack_success", ["wrapped"]),
    "attack success: prefilled ↓": ("attack_success", ["prefilled"]),
    "utility ↑": ("utility", ["facts", "arithmetic", "legality"]),
    "degenerate ↓": ("degenerate", None),
}


def table() -> None:
    """Write the table of all rows, each rate with its interval, which knows of variants, and k/n."""
    rows = Rows(HERE.parent / "gates.jsonl")
    found: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        if row["stage"] == "report":
            found.setdefault((row["target"], row["row"]), []).append(row)
    lines = ["| target, row | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for (target, name), some in sorted(found.items(), key=lambda item: item[0][0], reverse=True):
        cells = []
        for metric, tasks in COLUMNS.values():
            wanted = [f"small_world_{task}" for task in tasks or ()]
            kept = [
                {**row, "documents": [e for e in row["documents"] if tasks is None or e["task"] in wanted]}
                for row in some
            ]
            rate = rates(rows, kept, draws=name == "random")[metric]
            value, low, high = rate.percent
            bounds = "" if rate.low is None else f" [{low:.1f}, {high:.1f}]"
            cells.append(f"{value:.1f}{bounds} ({rate.k}/{rate.n})")
        lines.append(f"| {target}, {name} | " + " | ".join(cells) + " |")
    (HERE / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def accuracy() -> None:
    """Measure the gates, write their table, draw the layers."""
    counts: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    areas: dict[Any, list[list[float]]] = defaultdict(list)
    for target in ("over", "chat"):
        for seed in SEEDS:
            world = build_world("small", seed, parts=[target], quiet=True)
            module = CausalLMModule(str(world / target))
            module.configure_model()
            states = PromptStates(module, list(range(6)))
            known, asked = (read_prompts(world / "data" / f"{split}.jsonl") for split in ("train", "test"))
            word = appended_ids(module.tokenizer, [{"role": "user", "content": known["harmful"][0].text}], "sure")
            test = {kind: states(asked[kind], word, mean=True) for kind in KINDS}
            for name, settings in GATES.items():
                sides = gate_prompts(settings, known)
                fitted = fit_gate(
                    settings,
                    layers := settings.read_layers(6),
                    *(states(s, word, True).of(layers) for s in sides.values()),
                )
                gate, policy = fitted.gate(settings), settings.policy(fitted.record.threshold)
                scores = {kind: gate(found.of(layers).reading(layers)) for kind, found in test.items()}
                for kind, found in scores.items():
                    hits = policy.weights(found) == settings.positive_factor
                    counts[target, name, kind][0] += int(hits.sum())
                    counts[target, name, kind][1] += len(found)
            for kind, single in (("transition", GATES["SCANS, T = 0.75"]), ("linear", GATES["selective: harmful"])):
                areas[target, kind].append(_each_layer(single, known, states, word, test))
    lines = ["| target | gate | " + " | ".join(KINDS) + " |", "|---" * (2 + len(KINDS)) + "|"]
    for target in ("over", "chat"):
        for name in GATES:
            cells = [f"{100 * k / n:.1f} ({k}/{n})" for k, n in (counts[target, name, kind] for kind in KINDS)]
            lines.append(f"| {target} | {name} | " + " | ".join(cells) + " |")
    (HERE / "accuracy.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    axes = new_axes(2)
    for place, target in zip(axes, ("over", "chat"), strict=True):
        for number, kind in enumerate(("transition", "linear")):
            values = torch.tensor(areas[target, kind])
            place.plot(
                range(6), values.mean(0), "o-", color=COLOURS[number], label=f"{kind}, mean of {len(SEEDS)} seeds"
            )
            place.fill_between(range(6), values.amin(0), values.amax(0), color=COLOURS[number], alpha=0.2, linewidth=0)
        place.set_title(f"{target}: harmful from contrast, test prompts", fontsize=9, loc="left")
        place.set_xlabel("layer")
        place.set_ylabel("AUROC of a gate of this layer alone")
        place.legend(frameon=False, fontsize=8)
    save_figure(axes[0], HERE / "accuracy.svg")


def _each_layer(
    settings: GateSettings,
    known: dict[str, list[KnownPrompt]],
    states: PromptStates,
    word: list[int],
    test: dict[str, Any],
) -> list[float]:
    """AUROC of harmful against contrast prompts of the test split, of gates that read one layer."""
    import dataclasses

    found = []
    sides = [states(side, word, True) for side in gate_prompts(settings, known).values()]
    for layer in range(6):
        one_layer = dataclasses.replace(settings, layers=[layer])
        gate = fit_gate(one_layer, [layer], *(side.of([layer]) for side in sides)).gate(settings)
        one, two = (gate(test[kind].of([layer]).reading([layer])) for kind in ("harmful", "contrast"))
        found.append(float(auroc(one.double()[:, None], two.double()[:, None])[0]))
    return found


if __name__ == "__main__":
    matplotlib.use("Agg")
    table()
    if sys.argv[1:] == ["accuracy"]:
        accuracy()
