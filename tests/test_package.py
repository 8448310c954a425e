"""A built wheel carries configs and tasks, and works from another directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", root, ROOT], check=True)
    (wheel,) = root.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", root / "site", wheel], check=True)
    return wheel, root / "site"


def run(installed, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(installed[1]), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "sa_lightning", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )


def test_the_wheel_carries_configs_tasks_and_the_licence(installed):
    names = zipfile.ZipFile(installed[0]).namelist()
    for wanted in (
        "sa_lightning/configs/tiny/fit.yaml",
        "sa_lightning/tasks/tiny_world/tiny_world_harmful.yaml",
        "sa_lightning/py.typed",
    ):
        assert wanted in names
    assert any(name.endswith("LICENSE") for name in names)


def test_sa_from_a_wheel_finds_its_configs_and_tasks_in_another_directory(installed, tmp_path):
    code = "import sa_lightning; print(sa_lightning.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed[1])},
    ).stdout
    assert where.startswith(str(installed[1])), "the installed copy is the one that runs"
    assert run(installed, "--help", cwd=tmp_path).returncode == 0
    done = run(installed, "quickstart", "--world", "micro", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.json").is_file()


def test_the_licence_is_apache_2_and_versions_agree():
    import sa_lightning

    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert f'version = "{sa_lightning.__version__}"' in (ROOT / "pyproject.toml").read_text()
