"""Files appear whole or not at all."""

import os
import stat
import threading

import pytest
import torch
from safetensors.torch import save_file

from sa_lightning.files import mend, whole_directory, whole_file, write_whole


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_file_appears_when_its_block_ends_and_not_before(tmp_path):
    with whole_file(tmp_path / "deep" / "a.json") as partial:
        partial.write_text("half")
        assert not (tmp_path / "deep" / "a.json").exists()
    assert (tmp_path / "deep" / "a.json").read_text() == "half"
    assert names(tmp_path / "deep") == ["a.json"]


def test_an_error_leaves_the_file_of_before_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a.txt", "before")
    with pytest.raises(IsADirectoryError), whole_file(tmp_path / "a.txt") as partial:
        (partial.write_text("after"), tmp_path.read_text())
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.txt", "\ud800")
    assert (tmp_path / "a.txt").read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_who_may_read_is_left_to_the_umask_unless_the_file_is_private(tmp_path):
    umask = os.umask(0o027)
    try:
        write_whole(tmp_path / "open", "α")
        write_whole(tmp_path / "closed", b"\x00", private=True)
        with whole_directory(tmp_path / "all") as partial:
            save_file({"a": torch.zeros(1)}, partial / "weights")  # makes files that its owner alone may read
    finally:
        os.umask(umask)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("open", "closed", "all/weights")}
    assert modes == {"open": 0o640, "closed": 0o600, "all/weights": 0o640}
    assert (tmp_path / "open").read_bytes() == "α".encode()


def test_of_writers_at_the_same_time_one_wins_whole(tmp_path):
    texts = [str(number) * 100_000 for number in range(8)]
    writers = [threading.Thread(target=write_whole, args=(tmp_path / "a", text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a").read_text() in texts
    assert names(tmp_path) == ["a"]


def test_a_directory_is_replaced_whole_or_stays(tmp_path):
    place = tmp_path / "out"
    with whole_directory(place) as partial:
        (partial / "first").touch()
    with pytest.raises(IsADirectoryError), whole_directory(place, replace=True) as partial:
        ((partial / "half").touch(), tmp_path.read_text())
    assert names(place) == ["first"]
    with whole_directory(place, replace=True) as partial:
        (partial / "second").touch()
    assert names(place) == ["second"]
    with pytest.raises(OSError, match="not empty"), whole_directory(place) as partial:
        (partial / "third").touch()
    assert names(place) == ["second"]
    assert names(tmp_path) == ["out"]


def test_what_a_killed_run_has_left_of_a_directory_is_removed_and_what_is_the_users_stays(tmp_path):
    (tmp_path / ".out.0123abcd.partial").mkdir()
    (tmp_path / ".out.0123abcd.partial" / "stray").touch()
    for mine in (".out.partial", ".out.old", ".other.0123abcd.partial"):
        (tmp_path / mine).mkdir()
        (tmp_path / mine / "thesis").touch()
    with whole_directory(tmp_path / "out") as partial:
        (partial / "a").touch()
    assert names(tmp_path / "out") == ["a"]
    assert names(tmp_path) == [".other.0123abcd.partial", ".out.old", ".out.partial", "out"]


def test_a_replacement_that_was_killed_between_its_renames_is_finished_or_given_back(tmp_path):
    place, old = tmp_path / "out", tmp_path / ".out.00000000.old"
    for left, there in (("before", None), ("before", "after")):
        old.mkdir()
        (old / "file").write_text(left)
        if there is not None:
            (place / "file").write_text(there)
        with whole_directory(place, replace=True) as partial:
            assert (place / "file").read_text() == (there or left)
            (partial / "file").write_text("new")
        assert (place / "file").read_text() == "new"
        assert names(tmp_path) == ["out"]


def test_leftovers_are_those_of_the_names_that_are_asked_for(tmp_path):
    for name in (".a.json.89abcdef.partial", ".b.json.89abcdef.partial", ".a.json.partial", ".a.json.89abcdef.tmp"):
        (tmp_path / name).touch()
    mend(tmp_path, "a.json")
    assert names(tmp_path) == [".a.json.89abcdef.tmp", ".a.json.partial", ".b.json.89abcdef.partial"]
    mend(tmp_path / "nowhere")
