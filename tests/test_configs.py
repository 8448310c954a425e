"""Configs are documentation that runs: every one parses, and opens with its command."""

from pathlib import Path

import pytest

from sa_lightning.cli import main
from sa_lightning.cli.common.first_words import first_look

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
VERBS = ("fit", "validate", "predict", "edit", "sweep", "compare")


def verb_of(path):
    named = dict.fromkeys(("verdict", "gates", "smol", "settings"), "compare") | {verb: verb for verb in VERBS}
    return next((verb for start, verb in named.items() if path.stem.startswith(start)), "fit")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_parses_and_opens_with_its_command(path, capsys):
    text = path.read_text()
    assert text.startswith("# ")
    assert f"sa {verb_of(path)} --config" in text
    needed = ["--model.target", "x"] if "model:" not in text and verb_of(path) != "edit" else []
    if verb_of(path) == "edit":
        needed = ["--base", "x"]
    if verb_of(path) == "fit" and "demonstrations:" not in text:
        needed += ["--data.demonstrations", "x"]
    arguments = ["--config", str(path), *needed, "--output", "x"]
    assert first_look(verb_of(path), [*arguments, "--print_config"]) is None
    with pytest.raises(SystemExit) as end:
        main([verb_of(path), *arguments, "--print_config"])
    assert end.value.code == 0, capsys.readouterr().err


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
