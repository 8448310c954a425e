"""The scripts that made the evidence still find what they import, and tables follow from committed rows."""

import importlib.util
import sys
from pathlib import Path

import pytest

EVIDENCE = Path(__file__).parents[1] / "evidence"
SCRIPTS = sorted(EVIDENCE.rglob("*.py"))


def imported(script):
    spec = importlib.util.spec_from_file_location(f"evidence_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(script.relative_to(EVIDENCE)) for script in SCRIPTS])
def test_a_script_of_the_evidence_is_imported(script, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    imported(script)


def test_there_are_scripts():
    assert len(SCRIPTS) >= 5


def test_the_table_of_settings_follows_from_its_rows():
    kept = (EVIDENCE / "settings" / "table.md").read_text(encoding="utf-8")
    assert imported(EVIDENCE / "settings.py").written() == kept
