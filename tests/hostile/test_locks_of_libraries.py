"""A lock that a library leaves when its process is killed stands in nobody's way."""

from pathlib import Path

from sa_lightning.experiments.sweep.trials import Journal


def test_a_sweep_goes_on_past_the_lock_of_a_killed_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # optuna's link to a relative path leads nowhere, and it waits for ever
    (tmp_path / "out").mkdir()
    path = Path("out", "journal.log")
    path.with_name("journal.log.lock").symlink_to(path)
    Journal(path, {}, ["minimize"], "grid", 0)
    assert [found.name for found in path.parent.iterdir()] == ["journal.log"]
