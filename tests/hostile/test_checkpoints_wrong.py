"""Each way in which a checkpoint or an adapter was once a traceback, a hang, or another edit than was asked for."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_checkpoints import says, small_tensors, writer

from sa_lightning.errors import CheckpointError
from sa_lightning.foreign.patterns import first_match
from sa_lightning.surgery import EditSettings, Sources, open_checkpoint, plan_from

INDEX, ADAPTER = "model.safetensors.index.json", "adapter_config.json"
MODULES = ("model.layers.0.mlp", "model.layers.1.mlp")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write = writer(tmp_path)
    write("base", small_tensors(0))
    write("sharded", small_tensors(1, move=0.1), shards=2)
    (tmp_path / "lora").mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "lora" / ADAPTER).write_text(json.dumps(config))
    save_file(factors(), tmp_path / "lora" / "adapter_model.safetensors")
    return tmp_path


def factors(*modules: str) -> dict[str, torch.Tensor]:
    shapes = {"A": (2, 8), "B": (6, 2)}
    names = [(f"base_model.model.{module}", side) for module in modules or MODULES for side in shapes]
    return {f"{name}.lora_{side}.weight": torch.ones(shapes[side]) for name, side in names}


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"base_model_name_or_path": 7}, ["`base_model_name_or_path` is '7'", "str | None"]),
        ({"base_model_name_or_path": "x" * 5000}, ["xxx does not exist"]),
        ({"base_model_name_or_path": "~nobody-at-all/x"}, ["does not exist"]),
        ({"base_model_name_or_path": "lora"}, ["adapter whose base is an adapter"]),
        ({"lora_alpha": "4"}, ["`lora_alpha` is '4'", "float"]),
        ({"lora_alpha": None}, ["`lora_alpha` is 'None'"]),
        ({"lora_alpha": float("nan")}, ["`lora_alpha` is 'nan'"]),
        ({"r": 0}, ["have the ranks 2 and 2", "says 0"]),
        ({"r": 3}, ["have the ranks 2 and 2", "says 3"]),
        ({"rank_pattern": {"mlp": 4}}, ["have the ranks 2 and 2", "says 4"]),
        ({"alpha_pattern": {"(": 4}}, ["`alpha_pattern`", "Python cannot match"]),
        ({"alpha_pattern": {"(" * 20_000: 4}}, ["`alpha_pattern`", "Python cannot match"]),
        ({"alpha_pattern": {"mlp": "4"}}, ["`alpha_pattern` is"]),
        ({"alpha_pattern": ["mlp"]}, ["`alpha_pattern` is"]),
        ({"revision": 3}, ["`revision` is '3'"]),
    ],
)
def test_an_adapter_whose_settings_are_not_those_of_its_factors_is_refused(root, monkeypatch, values, facts):
    monkeypatch.chdir(root)
    changed(root / "lora" / ADAPTER, **values)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(root / "lora")
    says(error, *facts)
    assert len(str(error.value)) < 1000


def test_a_pattern_that_never_ends_is_refused_within_seconds_and_others_do_as_in_peft(root, monkeypatch):
    changed(root / "lora" / ADAPTER, alpha_pattern={"((([a-z_.0-9])+)+)+!": 4, r"layers\.1\.(m|q)l.": 9})
    before = time.monotonic()
    monkeypatch.setattr("sa_lightning.foreign.patterns.SECONDS", 0.5)
    with pytest.raises(CheckpointError, match=r"takes more than 0\.5 s to match"):
        open_checkpoint(root / "lora")
    monkeypatch.undo()
    assert time.monotonic() - before < 5
    changed(root / "lora" / ADAPTER, alpha_pattern={r"layers\.1\.(m|q)l.": 9})
    adapted = open_checkpoint(root / "lora")
    changes = [adapted.read(f"{module}.weight") - adapted.base.read(f"{module}.weight") for module in MODULES]
    assert torch.allclose(changes[0], torch.full((6, 8), 4.0), atol=1e-5)
    assert torch.allclose(changes[1], torch.full((6, 8), 9.0), atol=1e-5)


@pytest.mark.parametrize("patterns", [["q_proj", "a.c"], ["q_(p|x)roj", "a[bx]c"]])
def test_the_first_pattern_wins_plain_or_not(patterns):
    found = first_match(patterns, ["x.q_proj", "abc", "q", "q_projx"], r"(.*\.)?(PATTERN)$")
    assert list(found.values()) == [patterns[0], patterns[1], None, None]


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ({f"{MODULES[0]}.lora_A.weight": torch.ones(2, 8)}, ["a factor A of model.layers.0.mlp twice"]),
        (factors("x.model.layers.0.mlp"), ["changes `model.layers.0.mlp.weight` twice"]),
        ({name: torch.tensor(1.0) for name in factors()}, ["shape ()", "is a matrix"]),
        ({name: tensor.int() for name, tensor in factors().items()}, ["of type torch.int32"]),
        ({name: torch.ones(3 if "A" in name else 6, 8 if "A" in name else 2) for name in factors()},
         ["have the ranks 3 and 2"]),
    ],
)  # fmt: skip
def test_factors_that_are_no_factors_or_come_twice_are_refused(root, tensors, facts):
    save_file({**factors(), **tensors}, root / "lora" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(root / "lora")
    says(error, *facts)


@pytest.mark.parametrize(
    ("file", "text", "fact"),
    [
        (INDEX, '{"weight_map": [1]}', "has no `weight_map`"),
        (INDEX, '{"weight_map": {"a": 3}}', "names the shard 3"),
        (INDEX, "[" * 100_000, "cannot be read as JSON"),
        (INDEX, '{"metadata": {}}', "has no `weight_map`"),
        ("config.json", '{"quantization_config": 4}', "`quantization_config` is"),
        ("config.json", '{"text_config": {"tie_word_embeddings": "no"}}', "`tie_word_embeddings` is"),
        ("config.json", '{"tie_word_embeddings": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("config.json", "[]", "holds no JSON object"),
    ],
)
def test_json_of_another_shape_is_refused_with_its_file(root, file, text, fact):
    (root / "sharded" / file).write_text(text)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(root / "sharded")
    says(error, file, fact)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda header: header.update(__metadata__=[1]), "no object of texts"),
        (lambda header: header.update(__metadata__={"a": 1}), "no object of texts"),
        (lambda header: header["model.norm.weight"].update(shape=[-2, -3]), "has the shape [-2, -3]"),
        (lambda header: header["model.norm.weight"].update(shape=[6.0]), "has the shape [6.0]"),
        (lambda header: header["model.norm.weight"].update(dtype=["F32"]), "unhashable"),
        (lambda header: header.update({"\n\x1b]52": header.pop("model.norm.weight")}), "no name of a tensor"),
        (lambda header: header.update({"x" * 600: header.pop("model.norm.weight")}), "no name of a tensor"),
    ],
)
def test_a_header_that_the_format_does_not_have_is_refused(root, change, fact):
    file = root / "base" / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    written = json.dumps(header).encode()
    file.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(root / "base")
    says(error, "is not a whole safetensors file", fact)


def test_a_pipe_in_place_of_weights_is_not_waited_for(root):
    (root / "base" / "model.safetensors").unlink()
    os.mkfifo(root / "base" / "model.safetensors")
    with pytest.raises(CheckpointError, match="has no weights"):
        open_checkpoint(root / "base")


@pytest.mark.parametrize("beside", ["index", "adapter"])
def test_a_directory_that_is_two_things_is_refused_and_both_are_named(root, beside):
    if beside == "index":
        save_file(small_tensors(0), root / "sharded" / "model.safetensors")
    else:
        (root / "sharded" / ADAPTER).write_text((root / "lora" / ADAPTER).read_text())
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(root / "sharded")
    facts = {"index": ["two checkpoints", "`model.safetensors`"], "adapter": ["two things at once", ADAPTER]}
    says(error, *facts[beside], INDEX, "Nothing says which one is meant")


def test_an_index_of_a_single_file_is_no_second_thing(root):
    names = dict.fromkeys(load_file(root / "base" / "model.safetensors"), "model.safetensors")
    (root / "base" / INDEX).write_text(json.dumps({"weight_map": names}))
    assert set(open_checkpoint(root / "base").names) == set(names)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.int8, torch.uint32])
@pytest.mark.parametrize("roles", [("base",), ("harm",), ("base", "harm")])
def test_whole_numbers_are_no_weights(root, dtype, roles):
    tensors = {name: (100 * tensor).to(dtype) for name, tensor in small_tensors(3).items() if "mlp" in name}
    writer(root)("packed", {**small_tensors(3), **tensors})
    base, harm = ("packed" if role in roles else "base" for role in ("base", "harm"))
    with pytest.raises(CheckpointError) as error:
        plan_from(Sources(base=str(root / base), harm=(str(root / harm),)), EditSettings(density=0.5))
    says(error, "mlp.weight`", f"as {dtype}", "packed", "means nothing")


def test_adapters_in_a_circle_and_too_deep_are_refused(root):
    (root / "other").mkdir()
    for name in (ADAPTER, "adapter_model.safetensors"):
        (root / "other" / name).write_bytes((root / "lora" / name).read_bytes())
    changed(root / "other" / ADAPTER, base_model_name_or_path=str(root / "lora"))
    doubled = open_checkpoint(root / "other").read(f"{MODULES[0]}.weight")
    assert torch.allclose(doubled - open_checkpoint(root / "base").read(f"{MODULES[0]}.weight"), torch.tensor(8.0))
    changed(root / "lora" / ADAPTER, base_model_name_or_path=str(root / "other"))
    with pytest.raises(CheckpointError, match="without an end"):
        open_checkpoint(root / "other")


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"use_dora": True}, ["lacks the magnitudes of model.layers.0.mlp", "`use_dora` is True"]),
        ({"modules_to_save": ["norm"]}, ["`model.norm` among its `modules_to_save`", "no tensor"]),
        ({"modules_to_save": [3]}, ["`modules_to_save` is"]),
    ],
)
def test_an_adapter_that_lacks_what_its_settings_say_is_refused(root, values, facts):
    changed(root / "lora" / ADAPTER, **values)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(root / "lora")
    says(error, *facts)


def test_an_adapter_of_both_ends_as_one_is_refused_over_a_tied_base(root):
    changed(root / "base" / "config.json", tie_word_embeddings=True)
    changed(root / "lora" / ADAPTER, ensure_weight_tying=True)
    shapes = {"A": (2, 6), "B": (11, 2)}
    tensors = {f"base_model.model.lm_head.lora_{side}.weight": torch.ones(shape) for side, shape in shapes.items()}
    save_file(tensors, root / "lora" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"`ensure_weight_tying`, and .* ties its embeddings"):
        open_checkpoint(root / "lora")
