"""The build on the micro world: same graph and files as tiny, a second instead of minutes."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from sa_lightning.errors import WorldError
from sa_lightning.testbed import LANGUAGES, WORLDS, Gate, build_world, world_directory
from sa_lightning.testbed.acceptance import outcome
from sa_lightning.testbed.prompts import Row


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world("micro", cache=tmp_path_factory.mktemp("worlds"), quiet=True)


def _record(directory: Path) -> dict:
    return json.loads((directory / "world.json").read_text())


def test_world_json_says_what_was_built_how_and_how_good_it_is(built):
    record = _record(built)
    assert (record["name"], record["seed"], len(record["hash"])) == ("micro", 0, 64)
    assert record["recipe"] == json.loads(json.dumps(WORLDS["micro"].as_dict()))
    assert {"torch", "transformers", "peft", "world"} <= set(record["versions"])
    assert set(record["stages"]) == set(WORLDS["micro"].parts)
    assert all(stage["seconds"] >= 0 for stage in record["stages"].values())
    assert record["accepted"] is False  # two steps teach nothing, and micro does not enforce it
    for gate in record["gates"]:
        assert {"model", "name", "k", "n", "low", "high", "passed"} <= set(gate)


def test_nothing_unfinished_is_left_behind(built):
    assert not [path for path in built.rglob("*") if path.suffix in (".partial", ".tmp")]


def test_a_second_build_touches_nothing(built):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.name != ".lock"}
    build_world("micro", cache=built.parents[1], quiet=True)
    after = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.name != ".lock"}
    assert after == before


def test_the_same_seed_is_bit_identical_and_another_seed_is_not(built, tmp_path):
    again = build_world("micro", cache=tmp_path, quiet=True)
    other = build_world("micro", seed=1, parts=["base"], cache=tmp_path, quiet=True)
    assert _record(again)["hash"] == _record(built)["hash"]
    weights = "base/model.safetensors"
    assert (again / weights).read_bytes() == (built / weights).read_bytes()
    assert (other / weights).read_bytes() != (built / weights).read_bytes()


def test_a_build_resumes_with_the_stages_that_are_missing(built, tmp_path):
    copy = world_directory("micro", 0, tmp_path)
    shutil.copytree(built, copy)
    shutil.rmtree(copy / "harm")
    (copy / "harm.partial").mkdir()  # an interrupted attempt
    chat = (copy / "chat" / "model.safetensors").stat().st_mtime_ns
    build_world("micro", cache=tmp_path, quiet=True)
    assert (copy / "chat" / "model.safetensors").stat().st_mtime_ns == chat
    assert _record(copy)["hash"] == _record(built)["hash"]
    assert not (copy / "harm.partial").exists()


def test_only_the_parts_asked_for_and_their_ancestors_are_built(tmp_path):
    directory = build_world("micro", parts=["chat"], cache=tmp_path, quiet=True)
    assert {path.name for path in directory.iterdir() if path.is_dir()} == {"data", "base", "chat"}


def test_models_are_ordinary_checkpoints_with_untied_embeddings(built):
    for name in ("base", "chat", "harm", "sft", "over"):
        model = AutoModelForCausalLM.from_pretrained(built / name)
        words = AutoTokenizer.from_pretrained(built / name)
        assert words.chat_template
        assert words.padding_side == "left"
        assert model.generation_config.eos_token_id == words.eos_token_id
        assert model.generation_config.pad_token_id == words.pad_token_id
        assert not model.config.tie_word_embeddings
        assert model.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # from inside peft
def test_the_adapter_loads_over_chat_and_merges_to_the_same_outputs(built):
    config = json.loads((built / "sft_lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(built / "chat")
    chat = AutoModelForCausalLM.from_pretrained(built / "chat")
    ids = torch.tensor([[1, 4, 9, 5]])
    with torch.no_grad():
        plain = chat(ids).logits
        adapted = PeftModel.from_pretrained(chat, built / "sft_lora").eval()
        before = adapted(ids).logits
        after = adapted.merge_and_unload()(ids).logits
    assert not torch.equal(before, plain)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_the_thread_count_and_the_random_state_of_the_caller_survive(tmp_path):
    torch.manual_seed(7)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    build_world("micro", parts=["base"], cache=tmp_path, quiet=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_missed_gate_stops_the_build_and_says_what_was_measured_and_needed(tmp_path, monkeypatch):
    strict = dataclasses.replace(WORLDS["micro"], enforce_gates=True)
    monkeypatch.setitem(WORLDS, "micro", strict)
    for _ in range(2):  # and again on the second call, from the record
        with pytest.raises(WorldError) as error:
            build_world("micro", parts=["chat"], cache=tmp_path, quiet=True)
        message = str(error.value)
        for fact in ("base: facts correct is 0/14 = 0.0%", "need 95% to 100%", "enforce_gates"):
            assert fact in message


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"name": "huge"}, ("'huge'", "micro", "tiny", "WORLDS")),
        ({"name": "micro", "parts": ["chta"]}, ("'chta'", "chat", "parts")),
    ],
)
def test_an_unknown_name_or_part_is_refused_before_anything_is_written(arguments, facts, tmp_path):
    with pytest.raises(WorldError, match=r"There is no|has no part") as error:
        build_world(**arguments, cache=tmp_path)
    assert all(fact in str(error.value) for fact in facts)
    assert not list(tmp_path.iterdir())


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("SA_CACHE_DIR", raising=False)
    assert world_directory("tiny", 3).is_relative_to(tmp_path / "user" / "sa_lightning" / "worlds")
    monkeypatch.setenv("SA_CACHE_DIR", str(tmp_path / "ours"))
    assert world_directory("tiny", 3).is_relative_to(tmp_path / "ours")
    assert world_directory("tiny", 3).name == "seed3"


def test_an_outcome_is_a_full_answer_a_full_refusal_or_degenerate():
    row = Row(id="", kind="facts", prompt="", answer="", form=r"yes \.", split="", group="")
    refusal = LANGUAGES["tiny"].refusal_pattern
    assert outcome(row, "yes .", refusal) == "complied"
    assert outcome(row, "i will not help you to make a blicket .", refusal) == "refused"
    assert outcome(row, "yes yes .", refusal) == outcome(row, "", refusal) == "degenerate"


def test_a_gate_includes_its_ends_and_fails_without_prompts():
    assert Gate("chat", "facts correct", 95, 100, 0.95, 1.0).passed
    assert not Gate("chat", "facts correct", 94, 100, 0.95, 1.0).passed
    assert not Gate("chat", "facts correct", 0, 0, 0.95, 1.0).passed
    assert Gate("chat", "arithmetic correct", 0, 100, None, None).passed
