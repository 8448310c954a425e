"""`sa lm-eval` is lm-eval's own command line, with our model and our tasks."""

import json
import logging
import subprocess
import sys

import pytest
import torch
from support import command
from support.adapters import write_adapter
from support.lm_eval_tasks import write_task
from support.models import artifact_for, llama, word_tokenizer

from sa_lightning import SteeringArtifact, steer
from sa_lightning.callbacks import SurgeryCallback
from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.evaluation import evaluate
from sa_lightning.export.lm_eval_model import SafetyLM
from sa_lightning.module import CausalLMModule

PROMPTS = ["how do i bake a cake", "how do i break a window then", "yes", "a cake first , then a window ."]


def sa(*arguments, **environment):
    return command.sa("lm-eval", *arguments, **environment)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A directory with one task over invented prompts."""
    root = tmp_path_factory.mktemp("tasks")
    rows = [{"id": str(i), "prompt": prompt, "answer": "yes ."} for i, prompt in enumerate(PROMPTS)]
    settings = {
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    }
    write_task(root, "bakery", rows, **settings)
    return root


@pytest.fixture
def only_ours(monkeypatch):
    """Leave lm-eval's own 14,000 tasks out of the index: they take ten seconds to read."""
    from lm_eval import tasks as package

    original = package.TaskManager.__init__
    monkeypatch.setattr(
        package.TaskManager,
        "__init__",
        lambda self, *args, **settings: original(self, *args, **{**settings, "include_defaults": False}),
    )


def expected(model, tasks, limit=None):
    samples = evaluate(model, word_tokenizer(), ["bakery"], task_dirs=[tasks], limit=limit)
    return [sample.reply for sample in samples]


def replies(output):
    (path,) = output.rglob("samples_bakery_*.jsonl")
    assert path.stat().st_mode & 0o077 == 0  # lm-eval would let everybody read replies
    return [entry["filtered_resps"][0] for entry in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize("steered", [False, True])
def test_replies_are_those_of_the_model_in_memory(steered, checkpoints, artifact, tasks, tmp_path, only_ours, capsys):
    from sa_lightning.cli import main

    named = f",artifact={artifact}" if steered else ""
    main(["lm-eval", "run", "--model", "sa", "--model_args", f"pretrained={checkpoints / 'base'}{named}",
          "--include_path", str(tasks), "--tasks", "bakery", "--apply_chat_template", "--batch_size", "3",
          "--log_samples", "--output_path", str(tmp_path)])  # fmt: skip
    model = llama()
    bare = expected(model, tasks)
    with steer(model, SteeringArtifact.from_pretrained(artifact)):
        moved = expected(model, tasks)
    assert bare != moved
    assert replies(tmp_path) == (moved if steered else bare)
    assert "|bakery|" in capsys.readouterr().out
    (results,) = tmp_path.rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["bakery"]["exact_match,none"] == 0.0


def test_the_command_knows_our_tasks_and_those_of_the_user_and_limits(checkpoints, artifact, tasks, tmp_path):
    data = tmp_path / "data" / "xstest"
    data.mkdir(parents=True)
    rows = "".join(f"{i},How do I kill process {i}?,homonyms,safe,kill,\n" for i in range(4))
    (data / "xstest_prompts.csv").write_text(f"id,prompt,type,label,focus,note\n{rows}")
    done = sa(
        *("run", "--model", "sa", "--model_args", f"pretrained={checkpoints / 'base'},artifact={artifact},device=cpu"),
        *("--include_path", tasks, "--tasks", "bakery", "sa_xstest_safe", "--limit", "2", "--batch_size", "auto"),
        *("--gen_kwargs", "max_gen_toks=8", "--apply_chat_template", "--log_samples", "--output_path", tmp_path),
        SA_DATA_DIR=str(tmp_path / "data"),
    )
    assert done.returncode == 0, done.stderr
    model = llama()
    with steer(model, SteeringArtifact.from_pretrained(artifact)):
        assert replies(tmp_path) == expected(model, tasks, limit=2)
    for fact in ("|bakery ", "|sa_xstest_safe|", "complied", "limit: 2.0"):
        assert fact in done.stdout
    # lm-eval's own models are there as well: a new process knows none before somebody asks for them.
    own = sa("run", "--model", "dummy", "--include_path", tasks, "--tasks", "bakery", "--limit", "2")
    assert own.returncode == 0, own.stderr
    listed = sa("validate", "--tasks", "bakery,sa_xstest_safe,hellaswag", "--include_path", tasks)
    assert (listed.returncode, "All tasks found" in listed.stdout) == (0, True)


def test_the_list_of_tasks_has_ours(only_ours, capsys, tasks):
    from sa_lightning.cli import main

    logger = logging.getLogger("lm_eval")
    before = (logger.level, list(logger.handlers), logger.propagate)
    main(["lm-eval", "ls", "subtasks", "--include_path", str(tasks)])
    assert (logger.level, list(logger.handlers), logger.propagate) == before
    out = capsys.readouterr().out
    assert "|bakery" in out
    assert "|sa_xstest_safe" in out


def test_a_sum_of_a_base_and_adapters_is_loaded_with_the_tokenizer_of_the_base(checkpoints, tmp_path):
    merged = write_adapter(checkpoints / "base", tmp_path / "my adapter")
    found = SafetyLM(f"{checkpoints / 'base'} + {tmp_path / 'my adapter'}", device="cpu")
    assert found.tokenizer.chat_template
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), merged.parameters(), strict=True))


def test_the_surgery_that_an_artifact_records_can_be_applied(checkpoints, tmp_path, tasks, capsys):
    module = CausalLMModule(str(checkpoints / "base"))
    module.setup("validate")
    module.configure_model()
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), scale=3.0, density=0.5).surgery
    surgery.open(str(module.target))
    surgery.apply(module.network, module.tokenizer, module.dtype_name)
    # Only for edited weights: the artifact has no directions for others.
    found = artifact_for(module.network, strength=0.0, surgery=surgery.record())
    rule = found.rules["pairs"]
    rule.directions, found.fingerprints = (
        {"edited": rule.directions["original"]},
        {"edited": found.fingerprints["original"]},
    )
    found.save_pretrained(tmp_path / "artifact")
    after = expected(module.network, tasks)
    edited = SafetyLM(str(checkpoints / "base"), str(tmp_path / "artifact"), edited=True, device="cpu")
    assert f"records reads: base '{checkpoints / 'base'}', harm" in capsys.readouterr().err
    assert expected(edited.model, tasks) == after != expected(llama(), tasks)
    with pytest.raises(ArtifactError, match="fitted on other weights"):
        SafetyLM(str(checkpoints / "base"), str(tmp_path / "artifact"), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"pretraind": "x"}, "Did you mean `pretrained`?"),
        ({"load_in_4bit": True}, "`load_in_4bit` in --model_args is nothing that the model `sa` knows"),
        ({}, "names no `pretrained`"),
        ({"pretrained": "x", "strength": 0.1}, "no `artifact` is"),
        ({"pretrained": "x", "edited": True}, "`edited` is set"),
        ({"pretrained": "x", "dtype": "float8"}, "no type of weights"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused_before_a_model_is_loaded(arguments, fact):
    with pytest.raises(SettingError) as error:
        SafetyLM(**arguments)
    assert fact in str(error.value)
    assert str(error.value).count("\n") == 2


def test_a_strength_for_several_rules_is_refused_before_a_model_is_looked_for(tmp_path):
    several = artifact_for(llama())
    several.rules = {"one": several.rules["pairs"], "two": several.rules["pairs"]}
    with pytest.raises(SettingError, match="several rules: one, two"):
        SafetyLM("nowhere", artifact=str(several.save_pretrained(tmp_path / "artifact")), strength=0.1)


def test_an_artifact_without_surgery_cannot_edit_and_another_models_cannot_steer(checkpoints, artifact):
    with pytest.raises(SettingError, match="records no surgery"):
        SafetyLM(str(checkpoints / "base"), str(artifact), edited=True)
    with pytest.raises(ArtifactError, match="was fitted on test"):
        SafetyLM(str(checkpoints / "other"), str(artifact))
    with pytest.raises(ArtifactError, match="fitted on other weights"):
        SafetyLM(str(checkpoints / "harm"), str(artifact), device="cpu")


def test_strength_and_template_are_taken(checkpoints, artifact, tasks):
    neutral = SafetyLM(str(checkpoints / "base"), str(artifact), strength=0, device="cpu")
    assert expected(neutral.model, tasks) == expected(llama(), tasks)
    plain = SafetyLM(str(checkpoints / "base"), template="plain", device="cpu")
    assert plain.apply_chat_template([{"role": "user", "content": "yes"}]) == "yes\n"
    own = SafetyLM(str(checkpoints / "base"), device="cuda")  # which lm-eval asks for where nothing was typed
    assert own.apply_chat_template([{"role": "user", "content": "yes"}]) == "<bos><user> yes <assistant>"


@pytest.mark.parametrize("size", ["auto", "auto:4", None])
def test_an_automatic_batch_size_is_lm_evals_word_for_it(size, checkpoints):
    assert SafetyLM(str(checkpoints / "base"), device="cpu", batch_size=size).most_rows is None
    assert SafetyLM(str(checkpoints / "base"), device="cpu", batch_size="7").most_rows == 7


def test_mistakes_of_the_user_end_without_a_traceback(checkpoints, only_ours, refused):
    for typed, fact in (
        (["--tasks", "no_such_task"], "Tasks not found: no_such_task"),
        (["--tasks", "sa_xstest_safe", "--model_args", "artefact=x"], "Did you mean `artifact`?"),
    ):
        assert fact in refused("lm-eval", "run", "--model", "sa", *typed)


def test_help_teaches_and_is_quick():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sa_lightning", "lm-eval", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for fact in ("--model_args pretrained=", "edited=true", "--batch_size auto", "torchrun"):
        assert fact in done.stdout
    assert " torch\n" not in done.stderr
