"""Whatever lies in an output that a verb has not written, or that was changed since, stays as it is."""

import os
import subprocess
import sys

import pytest

from sa_lightning.errors import SaError
from sa_lightning.files import whole_directory, write_whole
from sa_lightning.outputs import Output, is_sealed, locked, sealed

NAMES = ("a.json", "b.svg", "c.jsonl")


def output(place, **changes):
    return Output(place, "fit", NAMES, **{"done": NAMES[:1], **changes})


def contents(place):
    return {path.name: path.read_text() for path in place.iterdir() if path.is_file()}


def run(place, text="x", names=NAMES, **changes):
    with output(place, **changes) as found:
        for name in names:
            write_whole(place / name, f"{text} {name}")
        found.finish()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_somebody_is_refused_before_any_work(tmp_path, name, overwrite):
    (tmp_path / name).write_text("mine")
    with pytest.raises(SaError, match="it is yours") as error:
        run(tmp_path, overwrite=overwrite)
    assert str(tmp_path / name) in str(error.value)
    assert contents(tmp_path) == {name: "mine"}


def test_what_a_verb_has_written_is_replaced_when_asked_and_no_more(tmp_path):
    run(tmp_path / "out")
    with pytest.raises(SaError, match=r"a\.json exists already"):
        run(tmp_path / "out", "y")
    (tmp_path / "out" / "notes.md").write_text("mine")
    run(tmp_path / "out", "y", overwrite=True)
    found = contents(tmp_path / "out")
    del found[".sa.jsonl"]
    assert found == {"notes.md": "mine"} | {name: f"y {name}" for name in NAMES}


def test_what_a_person_has_changed_since_is_not_replaced(tmp_path):
    run(tmp_path)
    (tmp_path / "b.svg").write_text("x b.svg, and my own words")
    with pytest.raises(SaError, match=r"b\.svg exists already, and not as `sa fit` has noted"):
        run(tmp_path, "y", overwrite=True)
    assert contents(tmp_path)["b.svg"] == "x b.svg, and my own words"


def test_another_verbs_file_and_a_link_are_not_replaced(tmp_path):
    with Output(tmp_path, "validate", NAMES):
        write_whole(tmp_path / "a.json", "a")
    with pytest.raises(SaError, match="not as `sa fit` has noted"):
        run(tmp_path, overwrite=True)
    (tmp_path / "a.json").rename(tmp_path / "elsewhere")
    (tmp_path / "a.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SaError), Output(tmp_path, "validate", NAMES, overwrite=True):
        raise AssertionError
    assert (tmp_path / "elsewhere").read_text() == "a"


def test_results_that_this_run_no_longer_has_go_and_changed_ones_stay(tmp_path):
    run(tmp_path, names=(*NAMES, "gate-x.svg", "gate-y.svg"))
    (tmp_path / "gate-y.svg").write_text("mine now")
    (tmp_path / "gate-photo.svg").write_text("mine")
    run(tmp_path, "y", names=NAMES[:2], overwrite=True)
    assert sorted(contents(tmp_path)) == [".sa.jsonl", "a.json", "b.svg", "gate-photo.svg", "gate-y.svg"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    with output(tmp_path):
        (tmp_path / "b.svg").write_text("mine")
        with pytest.raises(SaError, match="it is yours"):
            write_whole(tmp_path / "b.svg", "ours")
        (tmp_path / "unforeseen.svg").write_text("mine")
        with pytest.raises(SaError, match="it is yours"):
            write_whole(tmp_path / "unforeseen.svg", "ours")
    assert sorted(contents(tmp_path)) == ["b.svg", "unforeseen.svg"]


def test_half_a_note_that_a_kill_has_left_costs_no_other(tmp_path):
    run(tmp_path)
    with (tmp_path / ".sa.jsonl").open("a", encoding="utf-8") as record:
        record.write('{"verb": "fi')
    for text in ("y", "z"):
        run(tmp_path, text, overwrite=True)
    assert contents(tmp_path)["a.json"] == "z a.json"


def test_a_directory_is_known_by_all_that_is_in_it(tmp_path):
    for text in ("first", "second"):
        with Output(tmp_path, "fit", ["harm"], overwrite=True), whole_directory(tmp_path / "harm", replace=True) as new:
            (new / "file").write_text(text)
    assert (tmp_path / "harm" / "file").read_text() == "second"
    (tmp_path / "harm" / "notes").write_text("mine")
    with pytest.raises(SaError), Output(tmp_path, "fit", ["harm"], overwrite=True):
        raise AssertionError
    assert (tmp_path / "harm" / "notes").read_text() == "mine"


def test_a_refused_run_and_one_that_writes_nothing_leave_nothing(tmp_path):
    with output(tmp_path / "a" / "b"):
        pass
    with pytest.raises(RuntimeError), output(tmp_path / "a" / "b"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_the_dead_go_and_those_of_a_verb_beside_it_stay(tmp_path):
    run(tmp_path)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    dead = [tmp_path / ".a.json.01234567.partial", unfinished / ".states.safetensors.01234567.partial"]
    alive = [tmp_path / ".verdicts.jsonl.01234567.partial", tmp_path / ".a.json.partial", unfinished / "states"]
    for path in (*dead, *alive):
        path.touch()
    run(tmp_path, overwrite=True)
    assert [path.exists() for path in (*dead, *alive)] == [False] * 2 + [True] * 3


HOLD = """
import sys
from sa_lightning.outputs import Output
with Output(sys.argv[1], "fit", ["a.json"], shared=sys.argv[2] == "shared"):
    print("on", flush=True)
    sys.stdin.read()
"""


def holder(place, how="alone"):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "on\n"
    return process


def test_a_second_run_is_refused_while_the_first_lives_and_not_when_it_was_killed(tmp_path):
    process = holder(tmp_path / "out")
    with pytest.raises(SaError, match="Another run is writing"), output(tmp_path / "out"):
        raise AssertionError
    with output(tmp_path / "other"):
        pass
    process.kill()
    process.communicate()
    run(tmp_path / "out")
    assert (tmp_path / "out" / "a.json").exists()


def test_runs_that_share_an_output_shut_out_those_that_do_not(tmp_path):
    process = holder(tmp_path, "shared")
    (tmp_path / ".a.json.01234567.partial").touch()  # perhaps the other's
    with output(tmp_path, shared=True):
        assert (tmp_path / ".a.json.01234567.partial").exists()
    with pytest.raises(SaError, match="Another run is writing"), output(tmp_path):
        raise AssertionError
    process.communicate("")
    with output(tmp_path, shared=True):
        assert not (tmp_path / ".a.json.01234567.partial").exists()


def test_a_verb_within_another_writes_to_the_same_output_and_other_processes_of_a_run_hold_nothing(
    tmp_path, monkeypatch
):
    with Output(tmp_path, "quickstart", ["z"]), output(tmp_path):
        write_whole(tmp_path / "a.json", "x")
    with Output(tmp_path, "quickstart", ["z"]), output(tmp_path, overwrite=True):
        write_whole(tmp_path / "a.json", "y")
    with output(tmp_path, overwrite=True):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with output(tmp_path):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks, which could lose the lock")
def test_a_fork_neither_loses_the_lock_nor_notes_anything(tmp_path):
    with output(tmp_path) as found:
        child = os.fork()
        if child == 0:
            found.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert found.holds(tmp_path / ".sa.jsonl")
        process = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path), "alone"], capture_output=True, text=True, check=False
        )
        assert "Another run is writing" in process.stderr


def test_a_lock_file_that_its_holder_has_removed_is_no_lock(tmp_path):
    with locked(tmp_path / "lock", "it"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "it"), pytest.raises(SaError), locked(tmp_path / "lock", "it"):
        raise AssertionError


def test_where_a_file_system_knows_no_locks_the_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    import fcntl

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    run(tmp_path)
    assert "knows no locks" in capsys.readouterr().err
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300, "caf\udce9", "nul\0", "/proc/x/y", "/dev/null"])
def test_what_is_no_place_for_results_is_refused_with_why(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(SaError, match="cannot take results"), output(tmp_path / place):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_file_is_an_output_beside_others(tmp_path):
    for text in ("x", "y"):
        with Output.of_file(tmp_path / "v.jsonl", "judge", overwrite=True):
            write_whole(tmp_path / "v.jsonl", text)
            write_whole(tmp_path / "another.json", text)  # of no verb
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SaError, match="it is yours"), Output.of_file(tmp_path / "thesis.tex", "judge", overwrite=True):
        raise AssertionError
    with pytest.raises(SaError, match="is a directory"):
        Output.of_file(tmp_path, "judge")
    with pytest.raises(SaError, match="cannot take results"):
        Output.of_file(tmp_path / ("x" * 245), "judge")  # its hidden name would be too long
    assert sorted(contents(tmp_path)) == [".sa.jsonl", "another.json", "thesis.tex", "v.jsonl"]


def test_a_sealed_text_tells_whether_it_was_changed():
    text = sealed("# Card\n\nα\n")
    assert is_sealed(text)
    assert not is_sealed(text.replace("α", "β"))
    assert not is_sealed(text + "mine")
    assert not is_sealed("# Card\n")
