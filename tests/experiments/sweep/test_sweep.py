import json
import math
import time
from pathlib import Path

import pytest
import yaml
from support.command import Started, sa

from sa_lightning.errors import SettingError
from sa_lightning.experiments.sweep.space import Match, Space
from sa_lightning.experiments.sweep.trials import Journal


def test_grids_are_laid_one_after_the_other():
    space = Space([{"surgery.density": [0.1, 1], "surgery.scale": [1, 2]}, {"surgery.select": "random"}])
    assert [point for _, point, _ in space.points()] == [
        {"surgery.density": 0.1, "surgery.scale": 1},
        {"surgery.density": 0.1, "surgery.scale": 2},
        {"surgery.density": 1, "surgery.scale": 1},
        {"surgery.density": 1, "surgery.scale": 2},
        {"surgery.select": "random"},
    ]


@pytest.mark.parametrize("root", [0.3, 2.0, 7.7])
def test_a_match_closes_in_on_the_scale_at_which_a_rate_has_its_value(root: float):
    search = Match("attack_success", at=0.1, low=0.05, high=40, steps=14, tolerance=0.005).search()
    tried, value = [], next(search)
    try:
        while True:
            tried.append(value)
            value = search.send(0.1 * root / value - 0.1)  # a rate that falls as the scale grows
    except StopIteration:
        pass
    assert tried[-1] == pytest.approx(root, rel=0.06)
    assert tried[0] == pytest.approx(math.sqrt(0.05 * 40), rel=1e-3)


@pytest.mark.parametrize(
    ("grid", "fact"),
    [
        ({}, "`space` is empty"),
        ({"model.target": ["x"]}, "settings of `surgery` and `steering`"),
        ({"surgery.scale": []}, "no values"),
        ({"surgery.scale": {"low": 2, "high": 1}}, "0 < low < high"),
        ({"surgery.scale": {"lo": 2, "high": 3}}, "neither bounds nor a match"),
        ({"surgery.scale": {"match": "success", "at": 0.1, "low": 1, "high": 2}}, "`success` is no rate"),
    ],
)
def test_a_space_that_cannot_be_meant_is_refused(grid: dict, fact: str):
    with pytest.raises(SettingError) as error:
        Space(grid)
    assert fact in str(error.value)


@pytest.fixture(scope="module")
def cache(worlds):
    return worlds


BASE = {
    "model": {"target": "world:micro/chat"},
    "surgery": {"base": "world:micro/chat", "harm": "world:micro/harm"},
    "data": {"demonstrations": "world:micro/data/demonstrations.jsonl", "limit": 4},
    "evaluation": {
        "tasks": ["tiny_world"],
        "metadata": {"world": "world:micro", "split": "validation"},
        "limit": 4,
        "batch_size": 32,
    },
}


def sweep(root: Path, cache: Path, output: str = "out", status: int = 0, **settings: object) -> tuple[dict, str]:
    config = root / "sweep.yaml"
    content = {**BASE, **settings.pop("given", {}), "sweep": {"seeds": [0], **settings}}
    config.write_text(yaml.safe_dump(content))
    done = sa("sweep", "--config", config, "--output", root / output, SA_CACHE_DIR=str(cache))
    assert done.returncode == status, done.stderr
    found = root / output / "sweep.json"
    return json.loads(found.read_text()) if found.exists() else {}, done.stdout + done.stderr


def test_a_grid_is_measured_written_and_never_measured_twice(cache: Path, tmp_path: Path):
    plot = {"x": "surgery.scale", "series": "surgery.density"}
    space = {"surgery.density": [0.1, 1.0], "surgery.scale": [1e-12, 0.5]}
    first, text = sweep(tmp_path, cache, space=space, plot=plot)
    assert [trial["settings"] for trial in first["trials"]] == [
        {"surgery.density": d, "surgery.scale": s} for d in (0.1, 1.0) for s in (1e-12, 0.5)
    ]
    failed = [trial for trial in first["trials"] if trial["metrics"] is None]
    assert len(failed) == 2
    assert all("nothing changed" in trial["failed"] for trial in failed)
    assert "2 settings changed nothing" in text
    out = tmp_path / "out"
    for name in ("sweep.json", "sweep.md", "front.svg", "curves.svg", "journal.log"):
        assert (out / name).stat().st_size > 100
    assert "attack success" in text
    # The same command again runs nothing; a larger grid runs what is new.
    again, _ = sweep(tmp_path, cache, space=space, plot=plot)
    assert again["trials"] == first["trials"]
    more, _ = sweep(tmp_path, cache, space={**space, "surgery.density": [0.1, 1.0, 0.3]})
    assert more["trials"][:4] == first["trials"]
    assert len(more["trials"]) == 6
    # Under other conditions the journal is refused.
    _, text = sweep(tmp_path, cache, status=2, space=space, seeds=[1])
    assert "journal of another sweep: `sweep.seeds` was [0], now [1]" in text


def test_a_journal_without_a_trial_is_in_nobodys_way(tmp_path: Path):
    path = tmp_path / "journal.log"
    Journal(path, {"model": "wrong"}, ["minimize", "maximize"], "grid", 0)
    journal = Journal(path, {"model": "right"}, ["minimize"], "grid", 0)
    assert journal.records() == []
    journal.drop_if_empty()
    assert not path.exists()


def test_a_killed_sweep_goes_on_where_it_was(cache: Path, tmp_path: Path):
    space = {"surgery.density": [0.1, 0.3, 0.6, 1.0], "surgery.scale": [0.5]}
    whole, _ = sweep(tmp_path, cache, "whole", space=space)
    config = tmp_path / "sweep.yaml"
    process = Started("sweep", "--config", config, "--output", tmp_path / "killed", SA_CACHE_DIR=str(cache))
    journal = tmp_path / "killed" / "journal.log"
    while process.poll() is None and not (journal.exists() and journal.read_text().count('"record"') >= 2):
        time.sleep(0.05)
    process.kill()
    before = journal.read_text().count('"record"')
    assert 2 <= before < 5
    with journal.open("a") as file:
        file.write('{"op_code": 4, "worker')  # cut short in the middle of a line
    found, _ = sweep(tmp_path, cache, "killed", space=space)
    assert journal.read_text().count('"record"') == 5
    for a, b in zip(found["trials"], whole["trials"], strict=True):
        assert (a["settings"], a["metrics"]) == (b["settings"], b["metrics"])


def test_a_search_proposes_within_bounds_steers_and_writes_a_config_that_fit_takes(cache: Path, tmp_path: Path):
    space = {
        "surgery.density": {"low": 0.01, "high": 1.0, "log": True},
        "surgery.granularity": ["global", "tensor"],
        "steering.strength": {"low": 0.01, "high": 0.2},
    }
    limits = {"utility": 1.0}
    found, _ = sweep(tmp_path, cache, sampler="tpe", trials=3, arm="edited+steered", space=space, limits=limits)
    assert len(found["trials"]) == 3
    for trial in found["trials"]:
        assert 0.01 <= trial["settings"]["surgery.density"] <= 1
        assert 0.01 <= trial["settings"]["steering.strength"] <= 0.2
    more, _ = sweep(tmp_path, cache, sampler="tpe", trials=4, arm="edited+steered", space=space, limits=limits)
    assert more["trials"][:3] == found["trials"]
    assert len(more["trials"]) == 4
    done = sa("fit", "--config", tmp_path / "out" / "chosen.yaml", "--output", tmp_path / "fit", "--print_config")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    chosen = next(t for t in more["trials"] if t["digest"] == more["chosen"])
    assert config["surgery"]["density"] == chosen["settings"]["surgery.density"]
    assert config["steering"]["strength"] == chosen["settings"]["steering.strength"]
    assert config["model"]["target"] == "world:micro/chat"


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"space": {"surgery.densty": [0.1]}}, "densty"),
        ({"space": {"surgery.density": [10]}}, "To keep ten percent, write 0.1"),
        ({"space": {"surgery.density": {"low": 0.1, "high": 1}}}, "sweep.sampler tpe"),
        ({"space": {"surgery.density": [0.1]}, "objectives": ["safety"]}, "safety"),
        ({"space": {"steering.strength": [0.1]}}, "does not use"),
        ({"space": {"surgery.density": {"low": 2, "high": 3}}, "sampler": "tpe"}, "must be above 0 and at most 1"),
        ({"space": {"surgery.density": [0.1]}, "plot": {"x": "surgery.scale", "series": "x"}}, "over `surgery.scale`"),
        ({"space": {"surgery.density": [0.1]}, "arm": "edited+steered", "given": {"data": {}}}, "needs demonstrations"),
        ({"space": {"surgery.density": [0.1]}, "given": {"surgery": {"base": "world:micro/chat"}}}, "needs a surgery"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_loaded(cache: Path, tmp_path: Path, settings: dict, fact: str):
    _, text = sweep(tmp_path, cache, status=2, **settings)
    assert fact in text
    assert "Traceback" not in text
    assert not (tmp_path / "out" / "sweep.json").exists()
