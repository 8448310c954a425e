"""The scripts that made the evidence still find what they import."""

import importlib.util
import sys
from pathlib import Path

import pytest

EVIDENCE = Path(__file__).parents[1] / "evidence"
SCRIPTS = sorted(EVIDENCE.rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(script.relative_to(EVIDENCE)) for script in SCRIPTS])
def test_a_script_of_the_evidence_is_imported(script, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    spec = importlib.util.spec_from_file_location(f"evidence_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_there_are_scripts():
    assert len(SCRIPTS) >= 5
