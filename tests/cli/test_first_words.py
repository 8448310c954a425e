"""What is said before the libraries are loaded: help, and mistakes in what was typed."""

import re
import subprocess
import sys
import time

import pytest

from sa_lightning.cli import VERBS, main
from sa_lightning.cli.common.first_words import HELP, first_look
from sa_lightning.cli.common.help_texts import help_texts
from sa_lightning.cli.options.kept import options_of
from sa_lightning.errors import SettingError

GIVEN = ["--model.target", "m", "--data.demonstrations", "world:tiny/data/demonstrations.jsonl", "--output", "o"]


def test_the_help_that_is_kept_is_the_parsers():
    """If this fails, run `python -m sa_lightning.cli.common.help_texts`."""
    written = dict(help_texts())
    kept_names = {path.relative_to(HELP).with_suffix("").as_posix() for path in HELP.rglob("*.txt")}
    assert set(written) == kept_names
    assert {name for name in kept_names if "/" not in name} == set(VERBS) - {"lm-eval"}
    for verb, text in written.items():
        kept = (HELP / f"{verb}.txt").read_text(encoding="utf-8")
        assert options_of(kept) == options_of(text), verb
        # Word by word, in any order: Python writes `int | float` as whoever first wrote either.
        assert sorted(re.findall(r"\w+", kept)) == sorted(re.findall(r"\w+", text)), verb


@pytest.mark.parametrize("arguments", [["fit", "--help"], ["fit", "--output", "o"], ["sweep", "--confg", "x"]])
def test_neither_help_nor_a_plain_mistake_loads_a_library(arguments):
    code = (
        "import sys\nfrom sa_lightning.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: print('ended', end.code)\n"
        "heavy = {'torch', 'lightning', 'lm_eval', 'transformers', 'jsonargparse', 'statsmodels', 'sklearn'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [f"ended {0 if '--help' in arguments else 2}", "loaded []"]


def test_options_are_read_from_the_help():
    fit = options_of((HELP / "fit.txt").read_text(encoding="utf-8"))
    assert fit.required == ("output", "model.target", "data.demonstrations")
    assert {"config", "c", "print_config", "no-save-edited", "steering.gate.kind", "trainer.callbacks"} <= fit.names
    assert {"model", "steering", "steering.gate", "trainer"} <= fit.groups
    assert fit.knows("steering.rules.refuse.strength")  # a part of a value
    assert not fit.knows("steering.strenght")
    assert not fit.knows("model.foo")


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "required: --output, --model.target, --data.demonstrations"),
        (["--output", "o", "--data.demonstrations", "x"], "required: --model.target."),
        ([*GIVEN, "--steering.strenght", "0.1"], "no option `--steering.strenght`.\n.*\nNear it: --steering.strength"),
        ([*GIVEN, "--steering.parts.a.direction", "refusal"], "is called --steering.rules.a.direction now"),
        ([*GIVEN, "--config", "{tmp}/old.yaml"], "`steering.gate.others`(.|\n)*called --steering.gate.negative_factor"),
        ([*GIVEN, "--steering.direction=none"], "no direction of pairs is named"),
        ([*GIVEN, "--config", "nowhere.yaml"], "no config nowhere.yaml"),
        ([*GIVEN, "--config={tmp}/broken.yaml"], "cannot be read"),
        ([*GIVEN, "-c", "{tmp}/unknown.yaml"], "key `steering.strenght`, which is no setting"),
        (["--model.target", "m", "--output", "o", "--data.demonstrations", "no.jsonl"], "no.jsonl does not exist"),
        ([*GIVEN, "--config", "{tmp}/unread.yaml"], "away.jsonl does not exist"),
    ],
)
def test_mistakes_are_refused_with_what_to_do(tmp_path, arguments, fact):
    (tmp_path / "broken.yaml").write_text("model: [")
    (tmp_path / "unknown.yaml").write_text("steering: {strenght: 0.1}")
    (tmp_path / "old.yaml").write_text("steering: {gate: {kind: linear, others: 0}}")
    (tmp_path / "unread.yaml").write_text("steering: {gate: {prompts: away.jsonl}}")
    with pytest.raises(SettingError, match=fact) as caught:
        first_look("fit", [argument.format(tmp=tmp_path) for argument in arguments])
    assert str(caught.value).count("\n") == 2  # fact, why, remedy


@pytest.mark.parametrize("name", ["prompts", "facts", "facts_text"])
def test_a_file_that_an_edit_reads_has_to_be_there(name):
    with pytest.raises(SettingError, match=r"no\.jsonl does not exist"):
        first_look("edit", ["--base", "b", "--output", "o", f"--{name}", "no.jsonl"])


def test_an_older_word_within_a_rule_is_answered_by_the_new_one(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *GIVEN, "--steering.rules={r: {gate: {kind: linear, spares: [harmful]}}}"])
    assert "`spares` is called `exempt` now." in capsys.readouterr().err


def test_what_a_config_gives_need_not_be_typed(tmp_path):
    config = tmp_path / "all.yaml"
    config.write_text("model: {target: m}\ndata: {demonstrations: world:tiny/data/pairs.jsonl}\noutput: o\n")
    assert first_look("fit", ["--config", str(config)]) is None
    (tmp_path / "model.yaml").write_text("target: m\n")
    rest = [*GIVEN[2:], f"--model={tmp_path / 'model.yaml'}"]
    assert first_look("fit", rest) is None
    assert first_look("fit", ["--print_config"]) is None


def test_a_refusal_takes_less_than_a_second_of_this_process(capsys):
    began = time.process_time()
    with pytest.raises(SystemExit) as end:
        main(["fit", "--output", "o"])
    assert end.value.code == 2
    assert time.process_time() - began < 1.0
    assert "required" in capsys.readouterr().err
