"""`python -m sa_lightning.testbed`: builds, prints gates, records what was accepted."""

import json

from sa_lightning.testbed.__main__ import main


def test_worlds_are_built_shown_and_recorded_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SA_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "worlds.jsonl"
    for _ in range(2):
        assert main(["micro", "0", "1", "--record", str(path), "--quiet"]) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["name"], line["seed"]) for line in lines] == [("micro", 0), ("micro", 1)]
    assert lines[0]["hash"] != lines[1]["hash"]
    shown = capsys.readouterr().out
    assert "micro, seed 1: not accepted" in shown
    assert "| chat | facts correct | 0/14 = 0.0 % | 95 to 100 %, missed |" in shown


def test_another_world_of_the_same_name_and_seed_is_no_silent_replacement(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SA_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "worlds.jsonl"
    main(["micro", "0", "--record", str(path), "--quiet"])
    line = json.loads(path.read_text())
    path.write_text(json.dumps({**line, "hash": "0" * 64}) + "\n")
    assert main(["micro", "0", "--record", str(path), "--quiet"]) == 2
    assert "000000000000" in capsys.readouterr().err
    assert len(path.read_text().splitlines()) == 1
