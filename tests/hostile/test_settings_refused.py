"""Settings are checked as settings: a value that an option cannot have is refused before a library is loaded."""

import inspect
import json
import subprocess
import sys

import pytest
from support.bad_values import VERBS, bad_values, is_numeric, needed

from sa_lightning.cli import main
from sa_lightning.cli.common.first_words import first_look
from sa_lightning.cli.lm_eval import _check as check_lm_eval
from sa_lightning.cli.options.checks import WORDS, check_given, check_parsed
from sa_lightning.cli.options.kept import options_for
from sa_lightning.cli.options.trainer import ALLOWED, REFUSED
from sa_lightning.errors import SettingError
from sa_lightning.ranges import range_of

NOT_IN_A_RANGE = ("trainer.devices", "compare.targets")  # checked by themselves


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_takes_what_it_cannot_have(verb):
    found = [bad for bad in bad_values() if bad.verb == verb]
    assert len(found) > 4
    for bad in found:
        with pytest.raises(SettingError) as refused:
            first_look(bad.verb, bad.arguments)
        lines = str(refused.value).splitlines()
        assert len(lines) == 3, bad
        assert f"--{bad.name}" in lines[0], bad


def test_a_refusal_loads_no_library():
    chosen = [[bad.verb, *bad.arguments] for bad in bad_values()[::150]]
    code = (
        "import json, sys\nfrom sa_lightning.cli import main\nends = []\n"
        "for one in json.loads(sys.argv[1]):\n"
        "    try: main(one)\n    except SystemExit as end: ends.append(end.code)\n"
        "heavy = {'torch', 'lightning', 'lm_eval', 'transformers', 'jsonargparse', 'numpy'}\n"
        "print(json.dumps([ends, sorted(heavy & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(chosen)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[2] * len(chosen), []]


@pytest.mark.parametrize("verb", [*VERBS, "classes/RuleSettings", "classes/Minus"])
def test_every_number_has_a_range_and_every_default_is_right(verb):
    options = options_for(verb)
    for name, setting in options.settings.items():
        if len(name) > 1 and is_numeric(setting) and name not in NOT_IN_A_RANGE:
            assert range_of(name) is not None, f"--{name} of {verb} takes numbers: write its range into RANGES"
        if setting.default is not None and "<" not in setting.default and name not in ("evaluation.tasks",):
            default = setting.default.replace("(", "[").replace(",)", "]").replace(")", "]")
            check_given(verb, options, name, default, typed=True)
            if is_numeric(setting) and range_of(name) and setting.default not in ("null", "auto"):
                assert str(range_of(name)).capitalize() in setting.about or verb.startswith("classes"), name


@pytest.mark.parametrize(
    ("verb", "typed", "fact"),
    [
        ("fit", ["--steering.layers+", "-1"], "`--steering.layers` must be at least 0"),
        ("fit", ["--steering.layers+=[0, x]"], "must be a list of whole numbers, `edit_area` or `null`"),
        ("fit", ["--steering.strength", "{}"], "`--steering.strength` is empty"),
        ("fit", ["--steering.strength.3", ".nan"], "`--steering.strength.3` must be a finite number|holds nan"),
        ("fit", ["--steering.strength", "{3: .inf}"], "holds inf"),
        ("fit", ["--steering.rules", "{r: {per_kind: 1}}"], "`--steering.rules.r.per_kind` must be at least 2"),
        (
            "fit",
            ["--steering.rules", "{r: {gate: {kind: linear, recall: 95}}}"],
            "rules.r.gate.recall` must be above 0",
        ),
        ("fit", ["--steering.rules", "{r: {direction: sideways}}"], "rules.r.direction` must be one of refusal, "),
        ("fit", ["--steering.rules.r.strength", "1"], "a rule `r`, which no config before it has"),
        (
            "fit",
            ["--steering.rules", "{r: {}}", "--steering.rules.r.free", "2"],
            "rules.r.free` must be above 0 and below",
        ),
        ("fit", ["--surgery.minus", "{density: 3}"], "`--surgery.minus.density` must be above 0 and at most 1"),
        ("fit", ["--surgery.heads", "{0: [-1]}"], "`--surgery.heads` must be at least 0"),
        ("fit", ["--data", "{limit: 0}"], "`--data.limit` must be at least 1, but is 0"),
        ("fit", ["--data", "{file}"], "`--data.limit` must be at least 1, but is 0"),
        ("fit", ["--config", "{nested}"], "`--steering.gate.ramp` must be finite and at least 0, but is -1"),
        ("fit", ["-c", "{trainer}"], "`--trainer.limit_train_batches` is 1, but cannot be set here"),
        ("fit", ["--seed_everything", "true"], "must be a whole number"),
        ("fit", ["--trainer.limit_train_batches", "0.5"], "cannot be set here"),
        ("fit", ["--trainer.max_time", "00:00:00:00"], "cannot be set here"),
        ("validate", ["--trainer.limit_val_batches", "1"], "a part of what was asked for, or nothing"),
        ("validate", ["--trainer.precision", "bf16-mixed"], "--model.dtype"),
        ("validate", ["--data.arms", "[steerd]"], "steerd is none of them"),
        ("validate", ["--limit", "0"], "`--limit` must be at least 1"),
        ("predict", ["--data.prompts", "[null]"], "must be a list of texts or `null`"),
        ("predict", ["--data.prompts", "5"], "must be a list of texts or `null`"),
        ("sweep", ["--sweep.limits", "{safety: 0.1}"], "safety is none of them"),
        ("sweep", ["--evaluation.limit", "0"], "`--evaluation.limit` must be at least 1"),
        ("judge", ["--local.device", "quantum"], "must be auto, cpu, mps, cuda or cuda:N"),
        ("quickstart", ["--world", "flat"], "must be of smol, tiny, micro"),
    ],
)
def test_whatever_the_form_it_is_the_same_check(tmp_path, verb, typed, fact):
    texts = {"file": "limit: 0", "nested": "steering: {gate: {kind: linear, ramp: -1}}"}
    texts["trainer"] = "trainer: {limit_train_batches: 1}"
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    places = {f"{{{name}}}": str(tmp_path / f"{name}.yaml") for name in texts}
    with pytest.raises(SettingError, match=fact):
        first_look(verb, [*needed(verb), *(places.get(word, word) for word in typed)])


def test_what_is_right_is_taken(tmp_path):
    (tmp_path / "earlier.yaml").write_text(
        "trainer: {limit_val_batches: null, precision: 32-true, overfit_batches: 0.0, max_steps: -1}\n"
        "steering: {strength: 1e-3, gate: {kind: linear, threshold: '0.5'}, rules: {r: {strength: auto}}}\n"
        "surgery: {layer_scales: {0: 0.5, other: 0}, harm: [a, b]}\n"
    )
    typed = ["--config", str(tmp_path / "earlier.yaml"), "--steering.rules.r.per_kind", "8", "--overwrite"]
    typed += ["--trainer.devices", "0,1", "--trainer.limit_train_batches", "1.0", "--steering.layers+", "3"]
    typed += ["--steering.strength.3=0.1", "--seed_everything", "4294967295", "--no-save-edited"]
    assert first_look("fit", [*needed("fit"), *typed]) is None
    typed = ["--judge", "refusal", "--judge=harmbench", "--local.device", "cuda:1", "--endpoint.extra", "{seed: -1}"]
    assert first_look("judge", [*needed("judge"), *typed]) is None


def test_values_that_came_another_way_are_checked_once_parsed():
    options = options_for("fit")
    check_parsed("fit", options, {"data": {"limit": 3}, "trainer": {"max_steps": -1, "devices": "2"}})
    for config in (
        {"data": {"limit": 0}},
        {"trainer": {"max_steps": 3}},
        {"trainer": {"devices": 0}},
        {"steering": {"rules": {"r": {"class_path": "x.RuleSettings", "init_args": {"free": 1.0}}}}},
    ):
        with pytest.raises(SettingError):
            check_parsed("fit", options, config)


def test_every_option_of_the_trainer_is_either_shown_or_refused_with_a_reason():
    from lightning.pytorch import Trainer

    there = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    assert there == set(ALLOWED) | set(REFUSED)
    assert not set(ALLOWED) & set(REFUSED)
    for verb in ("fit", "validate", "predict"):
        shown = {name for name in options_for(verb).settings if name.startswith("trainer.")}
        assert shown == {f"trainer.{name}" for name in ALLOWED}


def test_words_are_those_of_the_tables():
    from sa_lightning.datamodules import ARMS, ARMS_APART
    from sa_lightning.experiments.sweep.report import OBJECTIVES

    assert {*WORDS["data.arms"]} == {arm.name for arm in (*ARMS, *ARMS_APART)}
    assert {*WORDS["sweep.objectives"]} == {*OBJECTIVES}


@pytest.mark.parametrize(
    ("typed", "fact"),
    [
        (["run", "--limit", "0"], "`--limit` must be finite and above 0"),
        (["run", "-b", "0"], "`--batch_size` must be at least 1"),
        (["run", "--seed", "0,-1"], "`--seed` must be at least 0"),
        (["run", "--num_fewshot=-1"], "`--num_fewshot` must be at least 0"),
        (["run", "--model_args", "pretrained=x,device=quantum"], "`device` must be cpu"),
        (["run", "--model_args", "pretrained=x,strength=nan"], "`strength` must be a finite number"),
    ],
)
def test_the_options_of_lm_eval_have_ranges_too(typed, fact):
    with pytest.raises(SettingError, match=fact):
        check_lm_eval(typed)
    check_lm_eval(["run", "--limit", "0.5", "-b", "auto:4", "--seed", "0,None,3", "--model_args", "device=cuda:0"])


SKIP = """
from lightning.pytorch import Callback

class Skip(Callback):
    def setup(self, trainer, pl_module, stage):
        trainer.limit_train_batches = trainer.limit_predict_batches = 0
"""


@pytest.mark.parametrize("verb", ["fit", "predict"])
def test_an_empty_result_is_no_success(checkpoints, demonstrations, tmp_path, monkeypatch, capsys, verb):
    (tmp_path / "skipping.py").write_text(SKIP)
    monkeypatch.syspath_prepend(tmp_path)
    typed = ["--model.target", checkpoints / "base", "--output", tmp_path / "out", "--trainer.accelerator", "cpu"]
    typed += ["--trainer.callbacks", "[{class_path: skipping.Skip}]", "--trainer.enable_progress_bar", "false"]
    typed += {"fit": ["--data.demonstrations", demonstrations, "--steering.strength", "0.1"]}.get(
        verb, ["--data.prompts", "[how]"]
    )
    with pytest.raises(SystemExit) as ended:
        main([verb, *map(str, typed)])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "was stopped before" in said.err
    assert "directions, settings and provenance" not in said.out
    assert not (tmp_path / "out" / "artifact").exists()
    assert not (tmp_path / "out" / "predictions.jsonl").exists()
