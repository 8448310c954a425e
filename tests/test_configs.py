"""Configs are documentation that runs: every one parses, and opens with its command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SA = Path(sys.executable).with_name("sa")
VERBS = ("fit", "validate", "predict", "edit", "sweep", "compare")


def verb_of(path):
    named = {"verdict": "compare", "gates": "compare", "smol": "compare"} | {verb: verb for verb in VERBS}
    return next((verb for start, verb in named.items() if path.stem.startswith(start)), "fit")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_parses_and_opens_with_its_command(path):
    text = path.read_text()
    assert text.startswith("# ")
    assert f"sa {verb_of(path)} --config" in text
    needed = ["--model.target", "x"] if "model:" not in text and verb_of(path) != "edit" else []
    if verb_of(path) == "edit":
        needed = ["--base", "x"]
    if verb_of(path) == "fit" and "demonstrations:" not in text:
        needed += ["--data.demonstrations", "x"]
    done = subprocess.run(
        [SA, verb_of(path), "--config", path, *needed, "--output", "x", "--print_config"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr


def test_the_reference_code_differs_from_the_paper_where_the_dossier_says():
    import yaml

    paper, code = (
        yaml.safe_load((ROOT / "configs" / "safety_arithmetic" / name).read_text())
        for name in ("fit_paper.yaml", "fit_reference_code.yaml")
    )
    assert paper["surgery"]["ties"] == "split"
    assert code["surgery"]["ties"] == "keep"
    assert code["steering"]["strength"] == pytest.approx(0.1 * paper["steering"]["strength"])
    assert (paper["steering"]["tokens"], code["steering"]["tokens"]) == (1, 4)
    assert (paper["steering"]["site"], code["steering"]["site"]) == ("residual", "mlp")
