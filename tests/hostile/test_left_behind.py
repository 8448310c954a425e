"""What a process leaves when it is killed stands in nobody's way."""

from pathlib import Path

import pytest

from sa_lightning.errors import CheckpointError
from sa_lightning.experiments.sweep.trials import Journal
from sa_lightning.surgery.checkpoints.partial_output import PartialOutput
from sa_lightning.surgery.edit.on_disk import check_output


def test_a_sweep_goes_on_past_the_lock_of_a_killed_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # optuna's link to a relative path leads nowhere, and it waits for ever
    (tmp_path / "out").mkdir()
    path = Path("out", "journal.log")
    path.with_name("journal.log.lock").symlink_to(path)
    Journal(path, {}, ["minimize"], "grid", 0)
    assert [found.name for found in path.parent.iterdir()] == ["journal.log"]


def test_what_a_killed_look_at_a_place_left_is_removed_by_the_next_edit(tmp_path):
    left = tmp_path / ".out.replaced-by-sa-edit.0123abcd.partial"
    left.touch()
    with PartialOutput(tmp_path / "out", {}, resume=False).open() as partial:
        partial.appear()
    assert not left.exists()


def test_the_lock_of_an_edit_that_was_killed_as_it_had_finished_is_removed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.lock").touch()
    with pytest.raises(CheckpointError, match="exists already"):
        check_output(tmp_path / "out", [], overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
