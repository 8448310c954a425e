"""Whole or not at all: killed, full, broken, twice at once, and continued."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from support.small_checkpoints import Write, says, writer
from torch import Tensor

from sa_lightning.errors import CheckpointError, NothingToDoError, SaError
from sa_lightning.surgery import EditSettings, Sources, plan_from, write_edit
from sa_lightning.surgery.checkpoints.partial_output import PartialOutput
from sa_lightning.surgery.edit import on_disk as edited_module

KILLS = 40


def tensors(move: float, size: int = 64) -> dict[str, Tensor]:
    fixed, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    return {
        f"model.layers.{i}.mlp.w.weight": torch.randn(size, size, generator=fixed)
        + move * torch.randn(size, size, generator=own)
        for i in range(12)
    }


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    write: Write = writer(tmp_path)
    return Sources(str(write("base", tensors(0.0), 6)), (str(write("harm", tensors(0.1), 6)),))


def edit(sources: Sources, output: Path, resume: bool = False, overwrite: bool = False, **settings: object) -> Path:
    return write_edit(plan_from(sources, EditSettings(**settings)), output, resume=resume, overwrite=overwrite)


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name != "surgery.json"}


FORKS = """
    import os, random, signal, sys, time
    import torch
    torch.set_num_threads(1)
    from sa_lightning.surgery import EditSettings, Sources, plan_from, write_edit
    from sa_lightning.surgery.checkpoints import slices, streaming
    slices.ENTRIES = 512  # many small steps, so that a kill can fall anywhere
    root, kills = sys.argv[1], int(sys.argv[2])
    sources = Sources(f"{root}/base", (f"{root}/harm",))

    def run(output, resume, overwrite):
        write_edit(plan_from(sources, EditSettings()), output, resume=resume, overwrite=overwrite)

    began = time.perf_counter()
    run(f"{root}/whole", False, False)
    took = time.perf_counter() - began
    choice = random.Random(0)
    kill = killed = 0
    while killed < kills and kill < 5 * kills:
        child = os.fork()
        if child == 0:
            if kill % 4 > 1:
                streaming.WORTH_FORKING = 0  # the edit has processes of its own, which outlive it for a moment
            run(f"{root}/killed{kill % 3}", resume=kill % 2 == 1, overwrite=kill % 3 == 2)
            os._exit(0)
        time.sleep(choice.uniform(0, took))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        names = [name for name in os.listdir(root) if name.startswith(f"killed{kill % 3}")]
        print(kill, int(os.WIFSIGNALED(status)), " ".join(names), flush=True)
        sys.stdin.readline()
        kill += 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_killed_at_any_moment_nothing_looks_finished_and_a_rerun_completes(sources: Sources, tmp_path: Path):
    inputs = {name: content(tmp_path / name) for name in ("base", "harm")}
    earlier = edit(sources, tmp_path / "killed2", scale=1.0)  # what `overwrite` replaces
    before = content(earlier)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-c", textwrap.dedent(FORKS), str(tmp_path), str(KILLS)]
    killed = 0
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            _, signalled, *names = line.split()
            killed += int(signalled)
            whole = content(tmp_path / "whole")
            for name in names:  # what has appeared is complete: the new one, or the earlier one
                found = content(tmp_path / name)
                assert found == whole or (name == "killed2" and found == before)
                if found == whole and name != "killed2":
                    shutil.rmtree(tmp_path / name)
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0
    assert killed == KILLS
    assert {name: content(tmp_path / name) for name in ("base", "harm")} == inputs
    for index in range(3):
        output = tmp_path / f"killed{index}"
        found = edit(sources, output, resume=index == 1, overwrite=output.exists())
        assert content(found) == content(tmp_path / "whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"base", "harm", "whole", "killed0", "killed1", "killed2"}


def interrupted(sources: Sources, output: Path, monkeypatch: pytest.MonkeyPatch, shards: int, error: BaseException):
    """Fail at the shard after so many."""
    original, calls = edited_module.write_shard, []

    def write(path: Path, *arguments: object) -> str:
        calls.append(path.name)
        if len(calls) > shards:
            raise error
        return original(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(edited_module, "write_shard", write)
        with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
            edit(sources, output)
    return caught


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    original, calls = edited_module.write_shard, []

    def write(path: Path, *arguments: object) -> str:
        calls.append(path.name)
        return original(path, *arguments)

    monkeypatch.setattr(edited_module, "write_shard", write)
    return calls


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_resume_keeps_finished_shards_and_gives_the_same_checkpoint(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    whole = edit(sources, tmp_path / "whole")
    caught = interrupted(sources, tmp_path / "out", monkeypatch, 3, error)
    if isinstance(error, OSError):
        says(caught, "No space left", "Finished shards are kept", "--resume")
    assert not (tmp_path / "out").exists()
    partial = tmp_path / ".out.partial"
    assert not (partial / "config.json").exists()
    calls = written(monkeypatch)
    out = edit(sources, tmp_path / "out", resume=True)
    assert len(calls) in (3, 4)  # the last shard before the failure may not have been noted
    assert content(out) == content(whole)
    reports = [json.loads((path / "surgery.json").read_text()) for path in (whole, out)]
    for report in reports:
        report.pop("versions")
    assert reports[0] == reports[1]
    assert not partial.exists()


def test_a_shard_that_changed_since_is_written_again(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = edit(sources, tmp_path / "whole")
    interrupted(sources, tmp_path / "out", monkeypatch, 4, KeyboardInterrupt())
    first = tmp_path / ".out.partial" / "model-00001-of-00006.safetensors"
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    calls = written(monkeypatch)
    assert content(edit(sources, tmp_path / "out", resume=True)) == content(whole)
    assert first.name in calls
    assert len(calls) < 6


def test_without_resume_it_starts_over_and_with_other_settings_resume_is_refused(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    interrupted(sources, tmp_path / "out", monkeypatch, 3, KeyboardInterrupt())
    with pytest.raises(CheckpointError) as error:
        edit(sources, tmp_path / "out", resume=True, density=0.2)
    says(error, "`settings.density` was 0.1, now 0.2", "leave out `--resume`")
    (Path(sources.harm[0]) / "model-00001-of-00006.safetensors").touch()
    with pytest.raises(CheckpointError) as error:
        edit(sources, tmp_path / "out", resume=True)
    says(error, "inputs.harm")
    calls = written(monkeypatch)
    edit(sources, tmp_path / "out", density=0.2)
    assert len(calls) == 6


def test_resume_is_refused_with_another_direction_under_the_same_name(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from safetensors.torch import save_file
    from support.models import llama

    llama().save_pretrained(tmp_path / "base", max_shard_size="20KB")
    file = tmp_path / "direction.safetensors"
    save_file({"r": torch.randn(32)}, file)
    sources = Sources(str(tmp_path / "base"), direction=str(file))
    interrupted(sources, tmp_path / "out", monkeypatch, 2, KeyboardInterrupt())
    save_file({"r": torch.randn(32)}, file)
    with pytest.raises(CheckpointError) as error:
        edit(sources, tmp_path / "out", resume=True)
    says(error, "`rows of the result` was")


def test_two_runs_at_once_are_refused(sources: Sources, tmp_path: Path):
    with PartialOutput(tmp_path / "out", {}, resume=False).open(), pytest.raises(SaError) as error:
        edit(sources, tmp_path / "out")
    says(error, "Another run is writing")
    edit(sources, tmp_path / "out")


def test_what_appears_under_the_outputs_name_meanwhile_is_not_replaced(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = edited_module._write_index

    def meanwhile(*arguments: object) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(edited_module, "_write_index", meanwhile)
        with pytest.raises(CheckpointError) as error:
            edit(sources, tmp_path / "out")
    says(error, "has appeared while this run was under way", "--resume")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    shutil.rmtree(tmp_path / "out")
    calls = written(monkeypatch)
    edit(sources, tmp_path / "out", resume=True)
    assert calls == []


def test_a_full_disk_is_told_before_anything_is_written(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr("sa_lightning.outputs.output.ROOM", 0)  # which any run needs: it would be refused for that
    with pytest.raises(CheckpointError) as error:
        edit(sources, tmp_path / "out")
    says(error, "0.00 GB free", "another disk")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "harm"]


def test_a_no_op_leaves_nothing_even_after_all_shards(sources: Sources, tmp_path: Path):
    with pytest.raises(NothingToDoError):
        edit(sources, tmp_path / "out", scale=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "harm"]


def test_an_earlier_output_gets_its_name_back_after_a_kill_between_the_renames(sources: Sources, tmp_path: Path):
    out = edit(sources, tmp_path / "out", scale=1.0)
    before = content(out)
    out.rename(tmp_path / ".out.replaced-by-sa-edit")
    with pytest.raises(CheckpointError, match="exists already"):
        edit(sources, tmp_path / "out")
    assert content(out) == before


@pytest.mark.parametrize("harm", ["unreadable", "cut", "nan"])
def test_a_broken_input_leaves_no_output(write_broken, sources: Sources, tmp_path: Path, harm: str):
    facts = write_broken(harm)
    with pytest.raises(CheckpointError) as error:
        edit(sources, tmp_path / "out")
    says(error, *facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "harm"]


@pytest.fixture
def write_broken(sources: Sources, monkeypatch: pytest.MonkeyPatch):
    """Break a late shard of the harm model after its header has been read."""
    shard = Path(sources.harm[0]) / "model-00006-of-00006.safetensors"

    def break_it(how: str) -> tuple[str, ...]:
        if how == "nan":
            data = bytearray(shard.read_bytes())
            data[-4:] = b"\x00\x00\xc0\x7f"
            shard.write_bytes(data)
            return "1 NaN or infinite", "harm", "scope.exclude"
        read = os.preadv

        def fail(descriptor: int, buffers: list, offset: int) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith("harm/" + shard.name):
                if how == "unreadable":
                    raise OSError(5, "Input/output error")
                return 0
            return read(descriptor, buffers, offset)

        monkeypatch.setattr(os, "preadv", fail)
        return ("cannot be read", "Input/output error") if how == "unreadable" else ("ended inside", shard.name)

    return break_it
