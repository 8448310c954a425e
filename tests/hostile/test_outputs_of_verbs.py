"""Every verb, typed as a person types it: what is somebody's stays, and what is no place is refused before the work."""

import json
from pathlib import Path

import pytest
from support.command import sa
from support.lm_eval_tasks import write_bakery
from support.models import artifact_for, llama


@pytest.fixture(scope="module")
def typed(checkpoints, demonstrations, tmp_path_factory):
    """Verb to all that is typed of it but `--output`."""
    place = tmp_path_factory.mktemp("inputs")
    base, cpu = ("--model.target", checkpoints / "base"), ("--trainer.accelerator", "cpu")
    artifact = artifact_for(llama(), strength=2.0, intervention="add_absolute").save_pretrained(place / "artifact")
    replies = place / "replies.jsonl"
    replies.write_text(json.dumps({"prompt": "how do i bake", "response": "I cannot help with that."}) + "\n")
    (place / "tasks").mkdir()
    tasks = ("--evaluation.tasks", "[bakery]", "--evaluation.task_dirs", f"[{write_bakery(place / 'tasks', 6)}]")
    fit = ("fit", *base, "--data.demonstrations", demonstrations, "--steering.strength", "0.3", *cpu)
    return {
        "fit": fit,
        "fit both": (*fit, "--surgery.harm", checkpoints / "harm"),
        "validate": ("validate", *base, *tasks, *cpu),
        "predict": ("predict", *base, "--data.prompts", "[bake]", "--prediction.max_new_tokens", "2", *cpu),
        "edit": ("edit", "--base", checkpoints / "base", "--harm", checkpoints / "harm"),
        "sweep": (
            *("sweep", *base, "--surgery.harm", checkpoints / "harm", "--sweep.space", "{surgery.scale: [0.5]}"),
            *tasks,
        ),
        "judge": ("judge", "--input", replies),
        "export": ("export", "--artifact", artifact, "--model", checkpoints / "base"),
        "quickstart": ("quickstart", "--world", "micro"),
    }


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("fit", "artifact"), ("fit", "layers.svg"), ("fit", "vocabulary.svg"), ("fit", "gate.svg"), ("fit", "fit.json"),
        ("fit both", "edited"), ("validate", "validate.yaml"), ("validate", "report.html"),
        ("predict", "predictions.jsonl"), ("predict", "predict.json"), ("sweep", "chosen.yaml"), ("sweep", "sweep.md"),
        ("sweep", "journal.log"), ("quickstart", "results.json"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_file_of_somebody_under_the_name_of_a_result_stays(typed, tmp_path, verb, name, more):
    (tmp_path / name).write_text("mine")
    done = sa(*typed[verb], "--output", tmp_path, *more)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"{tmp_path / name} exists already, and " in done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_checkpoint_and_a_file_that_no_verb_has_written_stay(typed, tmp_path):
    for verb, name, file in (("edit", "out", "config.json"), ("judge", "thesis.tex", ""), ("export", "x.pt", "")):
        place = tmp_path / name / file
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
        done = sa(*typed[verb], "--output", tmp_path / name, *([] if verb == "export" else ["--overwrite"]))
        assert (done.returncode, "exists" in done.stderr) == (2, True)
        assert place.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis.tex", "x.pt"]


@pytest.mark.parametrize("verb", ["fit both", "validate", "predict", "edit", "sweep", "judge", "export", "quickstart"])
def test_what_is_no_place_for_results_is_said_before_the_work(typed, tmp_path, verb):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x.pt", "/proc/nowhere/x.pt", tmp_path / f"{'n' * 300}.pt", "caf\udce9/x.pt"):
        done = sa(*typed[verb], "--output", place, cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert "cannot take results" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_fit_replaces_its_own_and_leaves_what_a_person_has_added_or_changed(typed, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "gate-photo.svg").write_text("mine")
    (output / ".artifact.old").mkdir()
    assert sa(*typed["fit both"], "--output", output).returncode == 0
    refused = sa(*typed["fit both"], "--output", output)
    assert f"{output / 'artifact'}, {output / 'edited'} exists already.\nResults are not written over" in refused.stderr
    done = sa(*typed["fit"], "--output", output, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not (output / "edited").exists()  # it was of the fit that is replaced
    assert (output / "gate-photo.svg").read_text() == "mine"
    assert (output / ".artifact.old").is_dir()
    card = output / "artifact" / "README.md"
    card.write_text(card.read_text() + "And what I found.\n")
    assert "README.md that was changed" in sa(*typed["fit"], "--output", output, "--overwrite").stderr
    assert card.read_text().endswith("And what I found.\n")


def test_a_measurement_goes_on_where_the_card_of_its_artifact_is_not_its_to_write(typed, tmp_path):
    artifact = artifact_for(llama(), strength=0.3).save_pretrained(tmp_path / "artifact")
    (artifact / "README.md").write_text("My own words.")
    tests = str(Path(__file__).parents[1])  # where the tasks find their functions
    done = sa(*typed["validate"], "--artifact", artifact, "--output", tmp_path / "out", PYTHONPATH=tests)
    assert done.returncode == 0, done.stderr
    assert "card was not renewed" in done.stderr
    assert (artifact / "README.md").read_text() == "My own words."
    assert (tmp_path / "out" / "validate.json").is_file()


def test_scores_are_not_written_where_something_else_is(typed, tmp_path):
    (tmp_path / "kept").mkdir()
    for mine in (tmp_path / "kept" / "config.json", tmp_path / "file"):
        mine.write_text("mine")
        place = tmp_path / mine.relative_to(tmp_path).parts[0]
        more = ("--select", "snip", "--scores", place, "--prompts", typed["judge"][2])
        done = sa(*typed["edit"], *more, "--output", tmp_path / "out")
        assert (done.returncode, "which holds no scores" in done.stderr) == (2, True), done.stderr
        assert mine.read_text() == "mine"
    assert not (tmp_path / "out").exists()
