"""`sa compare` on the micro world, whose models have learned nothing: their replies hang on every weight."""

import json
import shutil

import pytest
import yaml
from jsonargparse import ArgumentError

from sa_lightning.cli import compare, fit, validate
from sa_lightning.errors import DataError, SaError, SettingError
from sa_lightning.experiments.compare import comparison
from sa_lightning.names import resolve_worlds

BASE = {
    "surgery": {"base": "world:micro/chat", "harm": "world:micro/harm"},
    "data": {"demonstrations": "world:micro/data/demonstrations.jsonl", "limit": 4},
    "evaluation": {
        "tasks": ["tiny_world_harmful", "tiny_world_contrast"],
        "metadata": {"world": "world:micro"},
        "limit": 6,
        "batch_size": 32,
    },
}
COMPARE = {"targets": {"chat": "world:micro/chat"}, "splits": {"choose": "validation", "report": "test"}, "limits": {}}
ROWS = {
    "edited": {"choose": {"surgery.scale": [0.5, 2.0]}, "control": "masks"},
    "masks": {"from": "edited", "set": {"surgery.select": "random"}, "draws": 2, "draw": "surgery.seed"},
    "steered": {"arm": "steered", "set": {"steering.strength": 0.4}, "curve": {"steering.strength": [0.2, 0.4]}},
    "both": {"arm": "edited+steered", "from": ["edited", "steered"]},
}


@pytest.fixture(autouse=True)
def _worlds(worlds, monkeypatch):
    monkeypatch.setenv("SA_CACHE_DIR", str(worlds))
    monkeypatch.setenv("COLUMNS", "200")


def write(root, given=None, **settings):
    config = root / "compare.yaml"
    config.write_text(yaml.safe_dump({**BASE, **(given or {}), "compare": {**COMPARE, "rows": ROWS, **settings}}))
    return ["--config", str(config), "--output", str(root / "out")]


def rows_of(root):
    return [json.loads(line) for line in (root / "out" / "rows.jsonl").read_text().splitlines()]


def outcomes(row):
    return {entry["task"]: entry["outcomes"] for entry in row["documents"]}


@pytest.fixture
def replies(monkeypatch):
    """Everything that models said, in the order in which they were asked: one dictionary a measurement."""
    heard = []

    def listening(real):
        def evaluate(*arguments, **options):
            samples = real(*arguments, **options)
            heard.append({(sample.task, sample.id): (sample.prompt, sample.reply) for sample in samples})
            return samples

        return evaluate

    for verb in (comparison, validate):
        monkeypatch.setattr(verb, "evaluate", listening(verb.evaluate))
    return heard


def test_every_row_says_what_fit_and_validate_would_say(tmp_path, replies):
    chosen = {
        name: {**row, "choose": None, "curve": None, "control": []} for name, row in ROWS.items() if name != "masks"
    }
    chosen["edited"]["set"] = {"surgery.scale": 2.0}
    arguments = write(tmp_path, rows=chosen)
    compare.run(arguments)
    found = dict(zip((row["row"] for row in rows_of(tmp_path)), replies, strict=True))
    assert len({json.dumps([*said.values()]) for said in found.values()}) == 4  # no two arms reply alike
    replies.clear()
    model = ["--model.target", "world:micro/chat", "--trainer.devices=1", "--trainer.enable_progress_bar=false"]
    fit.run(
        [
            *(
                *model,
                "--surgery.base",
                "world:micro/chat",
                "--surgery.harm",
                "world:micro/harm",
                "--surgery.scale=2.0",
            ),
            *("--data.demonstrations", BASE["data"]["demonstrations"], "--data.limit=4", "--steering.strength=0.4"),
            *("--no-save-edited", "--output", str(tmp_path / "fit")),
        ]
    )
    tasks = ",".join(BASE["evaluation"]["tasks"])
    validate.run(
        [
            *(*model, "--artifact", str(tmp_path / "fit" / "artifact"), "--limit=6"),
            *("--evaluation.batch_size=32", f"--evaluation.tasks=[{tasks}]"),
            *("--evaluation.metadata.world=world:micro", "--evaluation.metadata.split=test"),
            *("--output", str(tmp_path / "measured")),
        ]
    )
    results = json.loads((tmp_path / "measured" / "results.json").read_text())
    expected = dict(zip(results["arms"], replies, strict=True))
    assert found == {name.replace("edited+steered", "both"): said for name, said in expected.items()}
    for row in rows_of(tmp_path):
        arm = results["arms"][row["arm"]]
        assert row["counts"]["attack_success"] == [arm["attack_success"]["k"], arm["attack_success"]["n"]]
        assert row["counts"]["degenerate"] == [arm["degenerate"]["k"], arm["degenerate"]["n"]]


def test_a_target_may_name_the_seed_and_itself(tmp_path):
    shutil.copytree(resolve_worlds("world:micro/chat", 0, quiet=True), tmp_path / "copy-0")
    targets = {"chat": "world:micro/chat", "copy": str(tmp_path / "{target}-{seed}")}
    arguments = write(tmp_path, targets=targets, rows={"edited": {"set": {"surgery.scale": 2.0}}}, only=["original"])
    compare.run(arguments)
    chat, copy = rows_of(tmp_path)
    assert copy["model"]["target"] == targets["copy"]
    assert (copy["weights"], outcomes(copy)) == (chat["weights"], outcomes(chat))


def test_a_comparison_is_measured_once_told_and_can_be_rerun(tmp_path, capsys, replies):
    criteria = [{"row": "both", "metric": "degenerate", "at_most": 1.0}]
    arguments = write(tmp_path, criteria=criteria)
    compare.run(arguments)
    text = capsys.readouterr().out
    kept = rows_of(tmp_path)
    # 2 originals, 2 scales; edited, 2 draws, steered, both; a curve of 2, one of which is the row itself.
    assert len(kept) == len(replies) == 2 + 2 + 1 + 2 + 1 + 1 + 1
    assert {row["metadata"]["split"] for row in kept if row["stage"] == "choose"} == {"validation"}
    assert {row["metadata"]["split"] for row in kept if row["stage"] == "report"} == {"test"}
    assert [sorted(row["worlds"]) for row in kept] == [["micro"]] * len(kept)
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["criteria"][0]["verdict"] == "met"
    assert found["missing"] == []
    for name in ("compare.md", "plane-chat.svg", "curves-chat.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 500
    assert "both" in text
    # The same command again measures nothing, and finds the same.
    compare.run([*arguments, "--print"])
    compare.run(arguments)
    assert len(replies) == len(kept)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["targets"] == found["targets"]
    # A rerun finds the committed numbers, or says that it does not.
    with pytest.raises(SystemExit) as done:
        compare.run([*arguments, "--rerun", "both", "--compare.only_seeds", "[0]"])
    assert done.value.code == 0
    assert "both, chat, seed 0, report" in capsys.readouterr().out
    assert len(replies) == len(kept) + 1
    (both,) = (row for row in kept if row["row"] == "both")
    assert outcomes(json.loads((tmp_path / "out" / "rerun.jsonl").read_text())) == outcomes(both)
    wrong = {**both, "documents": [{**entry, "outcomes": "c6"} for entry in both["documents"]]}
    other = [wrong if row is both else row for row in kept]
    (tmp_path / "out" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    with pytest.raises(SystemExit) as done:
        compare.run([*arguments, "--rerun", "both"])
    assert done.value.code == 1
    assert "other outcomes in tiny_world_contrast, tiny_world_harmful" in capsys.readouterr().out


def test_processes_may_share_the_work_and_what_lacks_is_said(tmp_path, capsys):
    steered = {"arm": "steered", "set": {"steering.strength": 0.12}}
    rows = {"edited": ROWS["edited"] | {"control": []}, "steered": steered}
    arguments = write(tmp_path, rows=rows, targets={"chat": "world:micro/chat", "harm": "world:micro/harm"})
    compare.run([*arguments, "--compare.only_targets", "[chat]", "--compare.only", "[edited]"])
    text = capsys.readouterr().out
    assert {(row["row"], row["target"]) for row in rows_of(tmp_path)} == {("original", "chat"), ("edited", "chat")}
    assert "missing: steered, chat, report, seeds 0, 1" in text
    assert "missing: edited, harm, choose, seeds 0, 2" in text
    assert "missing: edited, harm, waiting for a choice, 1" in text
    compare.run(arguments)
    assert "missing" not in capsys.readouterr().out
    keys = [row["key"] for row in rows_of(tmp_path)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("known", "fact"),
    [('"weights": "', "Rows of different models"), ('"worlds": {"micro": "', "Rows of different worlds")],
)
def test_rows_of_another_model_or_world_are_refused(tmp_path, known, fact):
    arguments = write(tmp_path, rows={"steered": {"arm": "steered"}})
    compare.run([*arguments, "--compare.only", "[original]"])
    path = tmp_path / "out" / "rows.jsonl"
    path.write_text(path.read_text().replace(known, known + "0"))
    with pytest.raises(DataError, match=fact):
        compare.run(arguments)


def test_prompts_that_settings_were_chosen_by_are_not_reported_on_under_another_name(tmp_path):
    rows = {"edited": {"choose": {"surgery.scale": [1.0, 2.0]}}}
    with pytest.raises(DataError, match="the very prompts that are reported on"):  # of no split, the task takes test
        compare.run(write(tmp_path, rows=rows, splits={"choose": "test"}))


def test_a_setting_that_changes_nothing_is_a_row_that_says_so(tmp_path, capsys):
    compare.run(write(tmp_path, rows={"mild": {"set": {"surgery.scale": 1e-30}}}))
    assert "failed" in rows_of(tmp_path)[-1]
    assert "nothing changed" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"rows": {}}, "`--compare.rows` is empty"),
        ({"rows_file": f"{__file__}/rows.jsonl"}, "which can be no file"),
        ({"rows": {"original": {}}}, "`original` is always there"),
        ({"rows": {"a": {"armed": "edited"}}}, "armed"),
        ({"rows": {"a": {"arm": "edit"}}}, "edit"),
        ({"rows": {"a": {"set": {"surgery.densty": 0.1}}}}, "densty"),
        ({"rows": {"a": {"set": {"surgery.density": 10}}}}, "To keep ten percent, write 0.1"),
        ({"rows": {"a": {"set": {"model.target": "x"}}}}, "settings of surgery, steering, data"),
        ({"rows": {"a": {"choose": {"surgery.scale": []}}}}, "nothing to try"),
        ({"rows": {"a": {"choose": {"surgery.scale": [1], "surgery.density": [0.1, 10]}}}}, "To keep ten percent"),
        ({"rows": {"a": {"curve": {"surgery.density": [10]}}}}, "To keep ten percent"),
        ({"rows": {"a": {"set": {"steering.strength": 0.1}}}}, "does not use"),
        ({"rows": {"a": {"from": "b"}}}, "names b, which there is not"),
        ({"rows": {"a": {"from": "b"}, "b": {"from": "c"}, "c": {"from": "a"}}}, "a from b from c from a"),
        ({"rows": {"a": {"control": "b"}}}, "names b, which there is not"),
        ({"rows": {"a": {"targets": ["cake"]}}}, "names cake, which there is not"),
        ({"rows": {"a": {"tasks": ["tiny_world_facts"]}}}, "names tiny_world_facts, which there is not"),
        (
            {"rows": {"a": {"arm": "steered", "set": {"steering.rules": {"p": {"strength": 1.5}}}}}},
            "`compare.rows.a`: `steering.rules.p`: `strength` is 1.5",
        ),
        ({"rows": {"a": {"draws": 3}}}, "3 draws of nothing"),
        ({"rows": {"a": {"draws": 3, "draw": "surgery.sed"}}}, "sed"),
        ({"only": ["b"]}, "names b, which there is not"),
        ({"only_seeds": [7]}, "names 7, which there is not"),
        ({"limits": {"safety": 0.1}}, "safety is none of them"),
        ({"objective": "safety"}, "safety is none of them"),
        ({"seeds": {"choose": [0]}}, "without `report`"),
        ({"seeds": {"report": [0]}}, "`compare.seeds.choose` is empty"),
        ({"seeds": {"chose": [0], "report": [1]}}, "names chose"),
        ({"seeds": {"choose": [0], "report": [1, 1]}}, "with a seed twice under report"),
        ({"splits": {}}, "chosen by the prompts that they are reported on"),
        (
            {
                "splits": {"report": "test"},
                "given": {"evaluation": {**BASE["evaluation"], "metadata": {"split": "test"}}},
            },
            "chosen by the prompts that they are reported on",
        ),
        ({"choose_tasks": ["tiny_world_harmfull"]}, "Did you mean tiny_world_harmful"),
        ({"given": {"evaluation": {"tasks": []}}}, "`evaluation.tasks` is empty"),
        ({"given": {"surgery": {}}}, "There would be nothing to subtract"),
        ({"given": {"data": {}}}, "`data.demonstrations` is not set"),
        ({"targets": {}}, "There is no model"),
        ({"candidates": {"names": ["edited"], "baseline": "edited"}}, "names edited, which there is not"),
        ({"candidates": {"names": ["x"], "baseline": "both"}}, "names x, which there is not"),
        ({"criteria": [{"row": "both"}]}, "makes 0 statements"),
        ({"criteria": [{"row": "both", "at_most": 0.1, "relative_drop": 0.1}]}, "makes 2 statements"),
        ({"criteria": [{"row": "both", "at_most": 0.1, "seeds_at_least": 2}]}, "2 seeds, of 1"),
        ({"criteria": [{"row": "both", "at_most": 0.1, "metric": "taste"}]}, "names taste"),
        ({"criteria": [{"row": "both", "percentile_of_draws": 0.9, "control": "steered"}]}, "names steered"),
        ({"criteria": [{"row": "both", "at_most": 0.1, "control": "masks"}]}, "Draws of a control matter"),
        ({"criteria": [{"row": "both", "at_most": 0.1, "or_includes_zero": True}]}, "It is about the interval"),
        ({"criteria": [{"row": "both", "at_most": 0.1, "task": "tiny_world_tea"}]}, "names tiny_world_tea"),
        ({"criteria": [{"row": "both", "not_worse": False}]}, "makes 0 statements"),
        ({"criteria": [{"row": "masks", "at_most": 0.1}]}, "which is drawn 2 times"),
        ({"criteria": [{"row": "both", "change_low": 0.1, "metric": "refusal_harmful"}]}, "not compared prompt by"),
        ({"rows": {"a": {"arm": "prompted"}}}, "`prompting.instruction` is not set"),
        (
            {"rows": {"a": {"arm": "prompted", "set": {"prompting.contrast": 2.5}}}},
            "`prompting.instruction` is not set",
        ),
        ({"rows": {"a": {"arm": "prompted", "set": {"prompting.instruction": " "}}}}, "nothing is said"),
        (
            {
                "rows": {"a": {"arm": "prompted", "choose": {"prompting.contrast": [float("nan")]}}},
                "given": {"prompting": {"instruction": "no"}},
            },
            "`contrast` is nan",
        ),
        ({"rows": {"a": {"arm": "prompted", "set": {"prompting.role": "assistant"}}}}, "role"),
        ({"rows": {"a": {"arm": "prompted", "set": {"surgery.scale": 0.1}}}}, "does not use"),
        ({"rows": {"a": {"set": {"prompting.instruction": "no"}}}}, "does not use"),
        ({"rows": {"a": {"targets": []}}}, "The row would be run nowhere"),
        ({"rows": {"a": {"rule": "matched"}}}, "sets `rule`, which needs `choose`"),
        ({"rows": {"a": {"at": 0.3, "choose": {"surgery.scale": [1]}}}}, "sets `at`, which needs"),
        (
            {"rows": {"a": {"fallback": True, "rule": "matched", "choose": {"surgery.scale": [1]}}}},
            "sets `fallback`, which needs",
        ),
    ],
)
def test_wrong_input_is_refused_before_anything_is_loaded(tmp_path, monkeypatch, settings, fact):
    def never(*arguments, **options):
        raise AssertionError("a model, or a world, was asked for")

    monkeypatch.setattr(comparison, "resolve_worlds", never)
    with pytest.raises((SettingError, SaError, ArgumentError)) as error:
        compare.run(write(tmp_path, **settings))
    assert fact in str(error.value)
    assert not (tmp_path / "out").exists()


INSTRUCTION = "say sorry , it is harmful"
PROMPTED = {
    "instruction": {"arm": "prompted", "set": {"prompting.instruction": INSTRUCTION}},
    "self_cd": {"arm": "prompted", "from": "instruction", "choose": {"prompting.contrast": [0.0, 2.5]}},
    "without": {"arm": "prompted", "from": "instruction", "set": {"prompting.contrast": 1.0}},
}


def test_an_instruction_and_its_contrast_are_rows_like_others(tmp_path, replies, capsys):
    compare.run(write(tmp_path, rows=PROMPTED))
    found = rows_of(tmp_path)
    said = {}
    for row, heard in zip(found, replies, strict=True):
        contrast = row["settings"].get("prompting.contrast")
        said[row["arm"], contrast, row["stage"]] = [reply for _, reply in heard.values()]
        assert row["settings"].get("prompting.instruction") == (INSTRUCTION if row["arm"] == "prompted" else None)
    assert {(arm, contrast) for arm, contrast, stage in said if stage == "choose"} == {
        ("original", None),
        ("prompted", 0.0),
        ("prompted", 2.5),
    }
    assert said["prompted", 1.0, "report"] == said["original", None, "report"]
    assert said["prompted", None, "report"] != said["original", None, "report"]
    assert said["prompted", 0.0, "choose"] != said["prompted", 2.5, "choose"]
    # What was asked is the same, so that rows can be compared prompt by prompt.
    assert len({tuple(e["prompts"] for e in row["documents"]) for row in found if row["stage"] == "report"}) == 1
    assert f"instruction “{INSTRUCTION}”, contrast 1" in (tmp_path / "out" / "compare.md").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        compare.run([*write(tmp_path, rows=PROMPTED), "--rerun", "self_cd"])
    assert ended.value.code == 0
    assert "every outcome is that on record" in capsys.readouterr().out


def test_an_instruction_for_all_rows_changes_those_that_are_prompted_alone(tmp_path, replies):
    rows = {"edited": {"set": {"surgery.scale": 2.0}}}
    compare.run(write(tmp_path, rows=rows))
    before = len(rows_of(tmp_path))
    told = {"prompting": {"instruction": INSTRUCTION}}
    compare.run(write(tmp_path, rows={**rows, "told": {"arm": "prompted"}}, given=told))
    assert [row["row"] for row in rows_of(tmp_path)[before:]] == ["told"]


def test_prompting_is_offered_by_this_verb_alone():
    from sa_lightning.cli import sweep

    assert "--prompting.instruction" in compare.parser().format_help()
    assert "--prompting" not in sweep.parser().format_help()


def test_of_a_world_of_public_prompts_each_part_that_is_named_has_a_hash_of_its_own(tmp_path, monkeypatch):
    stages = {name: {"files": {f"{name}.safetensors": name}} for name in ("data", "safe", "over")}
    (tmp_path / "world.json").write_text(json.dumps({"hash": "x", "data_sets": {}, "stages": stages}))
    monkeypatch.setattr("sa_lightning.testbed.world_directory", lambda name, seed: tmp_path)
    asked = {"model": {"target": "world:smol/safe"}, "settings": {}, "metadata": {"world": "world:smol"}}
    first = comparison._worlds(asked, 0)
    assert sorted(first) == ["smol/data", "smol/safe"]
    stages["over"]["files"] = {"over.safetensors": "another"}  # not named
    stages["harm"] = {"files": {}}
    (tmp_path / "world.json").write_text(json.dumps({"hash": "y", "data_sets": {}, "stages": stages}))
    assert comparison._worlds(asked, 0) == first
    stages["safe"]["files"] = {"safe.safetensors": "another"}
    (tmp_path / "world.json").write_text(json.dumps({"hash": "z", "data_sets": {}, "stages": stages}))
    assert comparison._worlds(asked, 0)["smol/safe"] != first["smol/safe"]
