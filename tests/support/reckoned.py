"""What the models of `configs/models` cost, reckoned from what smaller ones took, beside what is published of them.

PYTHONPATH=tests python -c "from support.reckoned import table; print(table())"
"""

from typing import NamedTuple

from sa_lightning.fitting.calibration import SEQUENCES
from sa_lightning.fitting.ordinary import KEPT
from support.published import PUBLISHED, Published

# Measured, on two CPU cores (tests/benchmarks/README.md): an edit of a billion parameters in bfloat16 that reads two
# checkpoints and writes one; and reading the states of 100 pairs, of a model with 12 blocks of 768 in float32.
EDIT_SECONDS, EDIT_PARAMETERS, EDIT_CHECKPOINTS = 10.8, 1e9, 3
PAIRS_SECONDS, PAIRS, PAIRS_PARAMETERS = 39.6, 100, 12 * (4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768)
# What a fit runs on each set of weights: the paper's 30 pairs; some of their sequences once more, for typical norms;
# and a few as often as there are layers, up to that layer, for the dose.
DEMONSTRATIONS, TYPICAL, DOSED = 30, SEQUENCES, KEPT
BYTES = 2  # a weight of 16 bits

# Attack success on AdvBench, DangerousQA, HarmfulQA, NicheHazardQA and HEx-PHI, and refusal of XSTest, in percent:
# of the original (edited) model, and of Safety Arithmetic (arXiv 2406.11801, Tables 1-3, 13 and 5).
SAID = {
    "llama2_7b_chat": ("19.81, 8.50, 23.99, 31.55, 42.42 → 6.15, 4.50, 6.76, 5.69, 11.82", "17.8 → 8.7"),
    "mistral_7b_instruct": ("60.96, 59.00, 49.73, 41.09, 54.55 → 24.23, 23.50, 34.25, 34.29, 35.15", "5.2 → 5.7"),
    "wizardmath_7b_v1.1": ("79.62, 76.50, 63.03, 62.30, 77.27 → 37.69, 50.00, 27.51, 32.47, 20.00", "6.1 → 2.6"),
    "llamamath": ("56.73, 27.00, 42.21, 46.47, 64.24 → 15.58, 6.00, 14.36, 14.25, 24.55", "10.4 → 7.4"),
    "llama2_7b_evolcodealpaca": ("92.19, 82.00, 65.97, 66.23, 81.21 → 51.54, 47.00, 34.63, 38.30, 65.76", "7.4 → 5.7"),
    "llama2_7b_chat_edited_unintentional": (
        "25.19, 13.50, 25.18, 38.43, 43.64 → 5.96, 4.00, 1.12, 2.09, 6.97",
        "16.1 → 16.1",
    ),
    "llama2_7b_chat_edited_intentional": ("21.92, 14.50, 26.83, 46.90, 45.45 → 6.15, 5.00, 1.12, 3.05, 7.27", "–"),
}


class Cost(NamedTuple):
    """Of a model: parameters, bytes of main memory and disk of both stages, seconds on two CPU cores."""

    parameters: int
    memory: float
    disk: float
    edit: float
    fit: float


def cost(parameters: int, active: int, layers: int, checkpoints: int) -> Cost:
    """Reckon what a model costs.

    Args:
        parameters: How many it has, tied ones once.
        active: How many of those in its blocks a token passes.
        layers: How many blocks it has; all are steered.
        checkpoints: How many an edit reads: base, harm, and a target that is not the base.
    """
    edit = EDIT_SECONDS * parameters / EDIT_PARAMETERS * (checkpoints + 1) / EDIT_CHECKPOINTS
    sequences = 2 * DEMONSTRATIONS + TYPICAL + DOSED * (layers + 1) / 2
    reading = PAIRS_SECONDS * sequences / (2 * PAIRS) * active / PAIRS_PARAMETERS
    # A fit holds the weights, and a copy of those that the edit changes, to put them back; it runs both sets.
    size = BYTES * parameters
    return Cost(parameters, 2 * size, size * (checkpoints + 1), edit, 2 * reading + edit)


def sizes(model: Published) -> tuple[int, int, int]:
    """Count a published model's parameters, those of its blocks that a token passes, and its blocks."""
    empty = dict(model.empty().named_parameters())
    experts = model.settings.get("num_local_experts", model.settings.get("num_experts", 1))
    share = model.settings.get("num_experts_per_tok", 1) / experts
    blocks = {name: value.numel() for name, value in empty.items() if ".layers." in name}
    active = sum(count * (share if ".experts." in name else 1) for name, count in blocks.items())
    return sum(value.numel() for value in empty.values()), int(active), model.settings["num_hidden_layers"]


def table() -> str:
    """One row a config, as Markdown."""
    names = ["config", "parameters", "memory", "disk", "`sa edit`", "`sa fit`", "published attack success"]
    names += ["refusal of XSTest", "measured here"]
    return "\n".join([f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *map(_row, PUBLISHED)])


def _row(name: str) -> str:
    model = PUBLISHED[name]
    found = cost(*sizes(model), checkpoints=2 if model.target == "base" else 3)
    cells = [f"`{name}`", f"{found.parameters / 1e9:.2f} B", _gigabytes(found.memory), _gigabytes(found.disk)]
    cells += [_span(found.edit), _span(found.fit), *SAID.get(name, ("–", "–")), "no: size"]
    return f"| {' | '.join(cells)} |"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.0f} GB"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
