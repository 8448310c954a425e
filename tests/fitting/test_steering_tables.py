"""A gate, a direction of pairs or of prompts, an intervention: a new one is one file and one line, and `sa fit` has it.

Each toy is put into a copy of the package, so that what is typed, checked, fitted, kept and read follows from the line.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import sa_lightning
from sa_lightning.fitting import settings as fit_settings
from sa_lightning.steering import DIRECTIONS, INTERVENTIONS
from sa_lightning.steering.artifact import rule_settings
from sa_lightning.steering.directions.prompted import PROMPTED
from sa_lightning.steering.gates import settings as gate_settings
from sa_lightning.steering.gates.table import GATES

#: Table: its file, the new file, what that holds, and the lines: an import, and an entry behind a known one.
TOYS = {
    "gate": (
        "steering/gates/table.py",
        "steering/gates/toy.py",
        """
from dataclasses import dataclass
from sa_lightning.steering.gates.linear import LinearGate

@dataclass(frozen=True, eq=False)
class ToyGate(LinearGate):
    \"\"\"As `linear`, under a name of its own.\"\"\"
""",
        "from sa_lightning.steering.gates.toy import ToyGate",
        ('    "linear": LinearGate,', '    "toy": ToyGate,'),
    ),
    "direction": (
        "steering/directions/paired.py",
        "steering/directions/toy.py",
        """
def toy(safe, unsafe):
    \"\"\"The difference of medians.\"\"\"
    return safe.double().median(0).values - unsafe.double().median(0).values
""",
        "from sa_lightning.steering.directions.toy import toy",
        ('    "mean": mean_difference,', '    "toy": toy,'),
    ),
    "prompted": (
        "steering/directions/prompted.py",
        "steering/directions/toy_prompted.py",
        """
import torch

def toy(states):
    \"\"\"From harmless to harmful medians.\"\"\"
    found = states["harmful"].double().median(0).values - states["harmless"].double().median(0).values
    return torch.nn.functional.normalize(found, dim=-1)
""",
        "from sa_lightning.steering.directions.toy_prompted import toy",
        (
            "PROMPTED: dict[str, Prompted] = {",
            '    "toy": Prompted(toy, {"harmful": HARMFUL, "harmless": HARMLESS}, "to harm", "toy_add"),',
        ),
    ),
    "intervention": (
        "steering/intervention.py",
        "steering/toy_intervention.py",
        """
def toy_add(hidden, direction, strength):
    \"\"\"Half a step.\"\"\"
    return (hidden.float() + 0.5 * strength * direction.float()).to(hidden.dtype)
""",
        "from sa_lightning.steering.toy_intervention import toy_add",
        ('    "add_absolute": Intervention(add_absolute, LENGTH),', '    "toy_add": Intervention(toy_add, LENGTH),'),
    ),
}


def add(package: Path, toy: str) -> None:
    """Write the new file, and the import and the entry."""
    table, file, text, line, (before, entry) = TOYS[toy]
    (package / file).write_text(f'"""A toy."""\n{text}')
    known = (package / table).read_text()
    assert known.count(before) == 1
    known = known.replace(before, f"{before}\n{entry}")
    place = known.index("\nfrom sa_lightning.")
    (package / table).write_text(f"{known[:place]}\n{line}{known[place:]}")


def test_a_toy_of_each_is_typed_fitted_kept_and_read(checkpoints, prompts, tmp_path):
    package = tmp_path / "copy" / "sa_lightning"
    shutil.copytree(Path(sa_lightning.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for toy in TOYS:
        add(package, toy)
    gate = "{kind: toy, recall: 0.8, layers: [0, 1], negative_factor: 0.0}"
    (tmp_path / "toys.yaml").write_text(
        "steering:\n  direction: toy\n  position: end_of_prompt\n  intervention: toy_add\n  strength: -0.5\n"
        f"  gate: {gate}\n  rules: {{more: {{direction: toy, strength: 0.5, gate: {gate}}}}}\n"
    )
    script = f"""
import sys
from sa_lightning.cli.fit import run
run(["--config", {str(tmp_path / "toys.yaml")!r}, "--model.target",
     {str(checkpoints / "base")!r}, "--data.demonstrations", {str(prompts)!r}, "--output", {str(tmp_path / "out")!r},
     "--trainer.accelerator", "cpu"])
from transformers import AutoModelForCausalLM
from sa_lightning import SteeringArtifact, steer
import torch
artifact = SteeringArtifact.from_pretrained({str(tmp_path / "out" / "artifact")!r})
model = AutoModelForCausalLM.from_pretrained({str(checkpoints / "base")!r})
ids = torch.randint(6, 20, (3, 9))
plain = model(ids, use_cache=True).logits
with steer(model, artifact):
    assert not torch.equal(model(ids, use_cache=True).logits, plain)
print([type(rule.gate_of("original")[0]).__name__ for rule in artifact.rules.values()])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "['ToyGate', 'ToyGate']"
    config = json.loads((tmp_path / "out" / "artifact" / "sa_config.json").read_text())
    told = config["extraction"]["direction"], config["intervention"], config["gate"]["kind"]
    assert told == ("toy", "toy_add", "toy")
    more = config["rules"]["more"]
    assert (more["extraction"]["direction"], more["intervention"]) == ("toy", "toy_add")  # as its entry has it


@pytest.mark.parametrize(
    ("choices", "table"),
    [
        (gate_settings.Kind, ["always", *GATES]),
        (rule_settings.FromPrompts, [*PROMPTED]),
        (rule_settings.Acting, [name for name, known in INTERVENTIONS.items() if not known.mapped]),
        (fit_settings.Method, [*DIRECTIONS]),
        (fit_settings.Acting, [name for name, known in INTERVENTIONS.items() if not known.sized]),
    ],
)
def test_the_choices_of_options_are_the_tables(choices, table):
    assert list(get_args(choices)) == table
