"""No git, no home, no UTF-8, no terminal, no room: a run goes on, or says so in a sentence."""

import errno
import io
import json
import os
import re
import sys

import pytest
from support.command import sa

from sa_lightning import cli, resources
from sa_lightning.errors import SaError
from sa_lightning.files import cache_directory, write_whole

STUB = "sa_lightning.cli.data.run"


def test_without_git_the_commit_is_not_known(monkeypatch):
    known = resources.versions()
    monkeypatch.setenv("PATH", "/nowhere")
    found = resources.versions()
    assert "commit" not in found
    assert found == {name: said for name, said in known.items() if name != "commit"}


def test_without_a_home_there_is_a_cache_where_one_is_named_and_else_a_sentence(monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("sa_lightning.files.Path.home", homeless)
    monkeypatch.delenv("SA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(SaError, match="Set SA_CACHE_DIR"):
        cache_directory()
    monkeypatch.setenv("SA_CACHE_DIR", str(tmp_path))
    assert cache_directory() == tmp_path / "sa_lightning"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_letter_that_a_terminal_cannot_show_ends_nothing(encoding, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding=encoding))
    monkeypatch.setattr(STUB, lambda _: print("θ − 2 … α", flush=True))
    cli.main(["data"])
    assert "2" in shown.getvalue().decode(encoding)


def test_a_terminal_that_is_not_there_ends_nothing(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    monkeypatch.setattr(STUB, lambda _: print(sys.stdout.write("x"), sys.stderr.isatty()))
    cli.main(["data"])
    for stream in (sys.stdout, sys.stderr):
        stream.close()


@pytest.mark.parametrize("columns", ["1", "7", "many", "99999"])
def test_a_terminal_of_any_width_will_do(columns, tmp_path):
    replies = tmp_path / "replies.jsonl"
    replies.write_text(json.dumps({"prompt": "how do i bake", "response": "I cannot help with that."}) + "\n")
    done = sa("judge", "--input", replies, "--output", tmp_path / "v.jsonl", COLUMNS=columns)
    assert done.returncode == 0, done.stderr


SAFETENSORS = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def refusing(error):
    def run(_arguments):
        try:
            raise error
        except RuntimeError as cause:
            raise ValueError("it could not be saved") from cause

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), "/x/y: No space left on device"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "File too large"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), b"/x"), "/x: Permission denied"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), "/x: Read-only file system"),
        (SAFETENSORS, "No space left on device"),
    ],
)
def test_a_disk_that_refuses_is_said_and_is_no_success(error, said, monkeypatch, capsys):
    monkeypatch.setattr(STUB, refusing(error))
    with pytest.raises(SystemExit) as ended:
        cli.main(["data"])
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert re.search(rf"sa data: (I/O error: )?{re.escape(said)}\.\n", text)
    assert "Traceback" not in text


def test_a_cache_that_cannot_be_made_is_said(monkeypatch, capsys):
    monkeypatch.setenv("SA_CACHE_DIR", "/proc/nowhere")
    monkeypatch.setattr(STUB, lambda _: cache_directory().mkdir(parents=True))
    with pytest.raises(SystemExit) as ended:
        cli.main(["data"])
    assert ended.value.code == 1
    assert "SA_CACHE_DIR" in capsys.readouterr().err


def test_an_error_of_ours_is_still_an_error_with_its_traceback(monkeypatch):
    monkeypatch.setattr(STUB, refusing(FileNotFoundError(errno.ENOENT, "No such file", "/x")))
    with pytest.raises(FileNotFoundError):
        cli.main(["data"])


def test_a_full_disk_leaves_the_file_of_before_and_no_leftover(monkeypatch, tmp_path):
    write_whole(tmp_path / "a.json", "before")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a.json", "after")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "before"}


def test_a_disk_without_room_is_named_before_the_work(monkeypatch, tmp_path):
    import shutil

    from sa_lightning.outputs import Output

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SaError, match="cannot take results: No space left"), Output(tmp_path / "out", "fit", ["a"]):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []
