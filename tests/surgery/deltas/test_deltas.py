from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from references.surgery import flatten, keep_largest, orthogonalised_by_hand, ties_by_hand
from support.models import llama, perturbed
from support.small_checkpoints import Write, edited, says, small_tensors
from torch import Tensor

from sa_lightning.errors import CheckpointError, SettingError
from sa_lightning.surgery import (
    EditSettings,
    Scope,
    Sources,
    check_settings,
    kind_of,
    open_checkpoint,
    plan_from,
    write_edit,
)
from sa_lightning.surgery.delta import whole
from sa_lightning.surgery.deltas.rank_one import read_direction


def family(write: Write, **moves: float) -> dict[str, tuple[str, dict[str, Tensor]]]:
    """Checkpoints of one base, each moved by so much at random."""
    tensors = {name: small_tensors(i, move=move) for i, (name, move) in enumerate({"base": 0.0, **moves}.items())}
    return {name: (str(write(name, t)), t) for name, t in tensors.items()}


def minus(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: a[name] - b[name] for name in a}


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.allclose(a[n], b[n], atol=1e-6) for n in b)


def test_a_safety_vector_is_added_and_the_two_kinds_are_told_apart(write: Write, tmp_path: Path):
    made = family(write, aligned=0.1, unaligned=0.1, target=0.1)
    paths, tensors = ({n: made[n][i] for n in made} for i in (0, 1))
    sources = Sources(paths["base"], target=paths["target"], aligned=paths["aligned"], unaligned=paths["unaligned"])
    found, report = edited(tmp_path, sources)
    resta = minus(tensors["aligned"], tensors["unaligned"])
    assert close(found, {n: tensors["target"][n] + resta[n] for n in resta})
    assert report["delta"] == "aligned − unaligned"
    assert set(report["inputs"]) == {"base", "unaligned", "aligned", "target"}
    found, report = edited(tmp_path, Sources(paths["base"], target=paths["target"], aligned=paths["aligned"]))
    other = minus(tensors["aligned"], tensors["base"])
    assert close(found, {n: tensors["target"][n] + other[n] for n in other})
    assert report["delta"] == "aligned − base"
    assert (report["settings"]["operator"], report["settings"]["density"]) == ("add", 1.0)
    # Without an aligned model of its own, the base is the aligned one.
    found, report = edited(tmp_path, Sources(paths["base"], unaligned=paths["unaligned"]))
    assert close(found, {n: 2 * tensors["base"][n] - tensors["unaligned"][n] for n in resta})


def test_several_harm_vectors_are_summed_with_their_weights(write: Write, tmp_path: Path):
    made = family(write, one=0.1, two=0.2)
    paths, tensors = ({n: made[n][i] for n in made} for i in (0, 1))
    sources = Sources(paths["base"], (paths["one"], paths["two"]), weights=[1, -0.5])
    found, report = edited(tmp_path, sources, density=1, scale=1)
    deltas = [minus(tensors[n], tensors["base"]) for n in ("one", "two")]
    assert close(found, {n: tensors["base"][n] - deltas[0][n] + 0.5 * deltas[1][n] for n in deltas[0]})
    assert {"harm", "harm-2"} < set(report["inputs"])
    with pytest.raises(SettingError) as error:
        plan_from(Sources(paths["base"], (paths["one"],), weights=[1, 2]), EditSettings())
    says(error, "2 factors", "1 deltas")


def test_two_adapters_with_weights_are_the_exact_sum_of_their_products(tmp_path: Path):
    llama().save_pretrained(tmp_path / "base")
    products = []
    for index, weight in enumerate((1.0, -0.5)):
        config = LoraConfig(r=2 + index, lora_alpha=5, target_modules=["q_proj"], init_lora_weights=False)
        torch.manual_seed(index)
        model = get_peft_model(llama(), config)
        model.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
        model.save_pretrained(tmp_path / f"adapter{index}")
        layer = model.base_model.model.model.layers[1].self_attn.q_proj
        b, a = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        products.append(weight * layer.scaling["default"] * (b @ a))
    sources = Sources(
        str(tmp_path / "base"), (str(tmp_path / "adapter0"), str(tmp_path / "adapter1")), weights=[1, -0.5]
    )
    delta = plan_from(sources, EditSettings(density=1)).delta
    found = whole(delta, "model.layers.1.self_attn.q_proj.weight")
    assert torch.allclose(found, sum(products).detach(), atol=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0]])
def test_ties_trims_elects_and_averages_as_by_hand(write: Write, tmp_path: Path, weights: list[float] | None):
    made = family(write, a=0.1, b=0.1, c=0.1)
    paths, tensors = ({n: made[n][i] for n in made} for i in (0, 1))
    sources = Sources(paths["base"], (paths["a"], paths["b"], paths["c"]), weights=weights)
    found, report = edited(tmp_path, sources, density=0.4, scale=1, merge="ties")
    deltas = [flatten(minus(tensors[n], tensors["base"])) for n in "abc"]
    merged = ties_by_hand(deltas, [keep_largest(d, 0.4) for d in deltas], weights or [1.0] * 3)
    assert torch.allclose(flatten(found), flatten(tensors["base"]) - merged, atol=1e-6)
    assert report["k"] == int((merged != 0).sum())
    random, control = edited(tmp_path, sources, density=0.4, scale=1, merge="ties", control=True)
    assert not torch.equal(flatten(random), flatten(found))
    assert control["retained_energy"] == 1.0


def test_ties_of_one_delta_is_the_trim_alone(write: Write, tmp_path: Path):
    made = family(write, harm=0.1)
    sources = Sources(made["base"][0], (made["harm"][0],))
    a, _ = edited(tmp_path, sources, density=0.3, merge="ties")
    b, _ = edited(tmp_path, sources, density=0.3)
    assert torch.equal(flatten(a), flatten(b))


@pytest.mark.parametrize("granularity", ["global", "tensor"])
def test_the_orthogonalised_harm_vector_has_no_part_along_the_benign_one(
    write: Write, tmp_path: Path, granularity: str
):
    made = family(write, harm=0.1, benign=0.1)
    paths, tensors = ({n: made[n][i] for n in made} for i in (0, 1))
    sources = Sources(paths["base"], (paths["harm"],), benign=paths["benign"])
    delta = plan_from(sources, EditSettings(density=1, granularity=granularity)).delta
    harm, benign = (minus(tensors[n], tensors["base"]) for n in ("harm", "benign"))
    found = {name: whole(delta, name) for name in delta.names}
    groups = [list(harm)] if granularity == "global" else [[name] for name in harm]
    for names in groups:
        pick = lambda t, names=names: flatten({n: t[n] for n in names})  # noqa: E731  # bound to this turn of the loop
        expected = orthogonalised_by_hand(pick(harm), pick(benign))
        assert torch.allclose(pick(found).double(), expected, atol=1e-7)
        assert abs(float(pick(found).double() @ pick(benign).double())) < 1e-6
    with pytest.raises(Exception, match="zero everywhere") as error:
        plan_from(Sources(paths["base"], (paths["harm"],), benign=paths["base"]), EditSettings())
    says(error, "benign − base", "nothing can be taken out")


def test_one_edit_steps_along_one_delta(write: Write):
    for sources, fact in (
        ({"harm": ("h",), "aligned": "a"}, "harm and safety"),
        ({"aligned": "a", "benign": "b"}, "no `harm`"),
        ({"harm": ("h",), "direction_layer": 3}, "no `direction`"),
    ):
        with pytest.raises(SettingError) as error:
            kind_of(Sources("base", **sources))
        says(error, fact)
    with pytest.raises(SettingError) as error:
        check_settings(Sources("base"), EditSettings())
    says(error, "nothing to step along", "--harm")


def stream_writers(model: torch.nn.Module) -> list[Tensor]:
    """What each block and the embedding write, as matrices with the stream in front."""
    found = [model.model.embed_tokens.weight.T]
    for block in model.model.layers:
        found += [block.self_attn.o_proj.weight, block.mlp.down_proj.weight]
    return [matrix.detach() for matrix in found]


@pytest.fixture
def direction(tmp_path: Path) -> str:
    from safetensors.torch import save_file

    torch.manual_seed(3)
    vectors = {f"original.layers.{layer}.direction": torch.randn(32) for layer in range(3)}
    (tmp_path / "artifact").mkdir()
    save_file(vectors, tmp_path / "artifact" / "steering.safetensors")
    return str(tmp_path / "artifact")


def test_a_direction_is_projected_out_of_all_that_writes_to_the_stream(tmp_path: Path, direction: str):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    base = llama()
    base.save_pretrained(tmp_path / "base")
    sources = Sources(str(tmp_path / "base"), direction=direction, direction_layer=1)
    plan = plan_from(sources, EditSettings())
    out = write_edit(plan, tmp_path / "once")
    r = load_file(f"{direction}/steering.safetensors")["original.layers.1.direction"]
    r = r / r.norm()
    once = AutoModelForCausalLM.from_pretrained(out)
    assert all(float((r @ matrix).abs().max()) < 1e-5 for matrix in stream_writers(once))
    assert any(float((r @ matrix).abs().max()) > 0.1 for matrix in stream_writers(base))
    assert torch.equal(once.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)
    # Twice is once, to rounding.
    again = plan_from(Sources(str(out), direction=direction, direction_layer=1), EditSettings())
    twice = AutoModelForCausalLM.from_pretrained(write_edit(again, tmp_path / "twice"))
    for a, b in zip(stream_writers(once), stream_writers(twice), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    # It is what ablation in the activations does.
    tokens = torch.tensor([[1, 8, 9, 10, 11, 4]])
    states = once.requires_grad_(False)(tokens, output_hidden_states=True).hidden_states[:-1]
    assert all(float((state @ r).abs().max()) < 1e-4 for state in states)


@pytest.mark.parametrize("what", ["rules", "parts"])
def test_the_direction_of_a_rule_is_read_where_there_is_no_other(tmp_path: Path, what: str):
    from safetensors.torch import save_file

    one, two = torch.randn(32), torch.randn(32)
    file = tmp_path / "steering.safetensors"
    others = {f"{what}.spare.edited.layers.1.direction": two, f"{what}.spare.original.layers.1.gate": two.clone()}
    save_file({f"{what}.spare.original.layers.1.direction": one, **others}, file)
    assert torch.equal(read_direction(tmp_path, 1), one)
    save_file({f"{what}.spare.original.layers.1.direction": one, "original.layers.1.direction": two}, file)
    assert torch.equal(read_direction(tmp_path, 1), two)
    save_file({f"{what}.{name}.original.layers.1.direction": one.clone() for name in "ab"}, file)
    with pytest.raises(CheckpointError, match="holds 2 directions"):
        read_direction(tmp_path, 1)


def test_injection_adds_the_direction_times_the_mean_row(tmp_path: Path, direction: str):
    from safetensors.torch import load_file

    base = llama()
    base.save_pretrained(tmp_path / "base")
    settings = EditSettings(operator="add", scale=0.5)
    plan = plan_from(Sources(str(tmp_path / "base"), direction=direction, direction_layer=0), settings)
    out = open_checkpoint(write_edit(plan, tmp_path / "out"))
    r = load_file(f"{direction}/steering.safetensors")["original.layers.0.direction"]
    r = r / r.norm()
    name = "model.layers.2.mlp.down_proj.weight"
    before = base.model.layers[2].mlp.down_proj.weight
    assert torch.allclose(out.read(name), before + 0.5 * torch.outer(r, before.mean(0)), atol=1e-6)
    assert torch.equal(out.read("model.embed_tokens.weight"), base.model.embed_tokens.weight)


def test_gpt2_stores_its_writers_the_other_way_round(tmp_path: Path, direction: str):
    from safetensors.torch import load_file
    from support.models import gpt2

    gpt2().save_pretrained(tmp_path / "gpt2")
    sources = Sources(str(tmp_path / "gpt2"), direction=direction, direction_layer=1)
    out = open_checkpoint(
        write_edit(plan_from(sources, EditSettings(scope=Scope(exclude=("*wte*",)))), tmp_path / "out")
    )
    r = load_file(f"{direction}/steering.safetensors")["original.layers.1.direction"]
    r = r / r.norm()
    name = next(n for n in out.names if n.endswith("h.1.mlp.c_proj.weight"))
    bias = next(n for n in out.names if n.endswith("h.1.mlp.c_proj.bias"))
    assert out.shape(name) == (128, 32)
    assert float((out.read(name) @ r).abs().max()) < 1e-5
    assert abs(float(out.read(bias) @ r)) < 1e-5


def test_projections_that_would_not_do_what_they_say_are_refused(tmp_path: Path, direction: str):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    llama(tied=True).save_pretrained(tmp_path / "tied")
    with pytest.raises(SettingError) as error:
        plan_from(Sources(str(tmp_path / "tied"), direction=direction, direction_layer=0), EditSettings())
    says(error, "tied to the output head", "scope.embeddings: false")
    plan_from(
        Sources(str(tmp_path / "tied"), direction=direction, direction_layer=0),
        EditSettings(scope=Scope(embeddings=False)),
    )
    config = Gemma2Config(
        vocab_size=30, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "gemma")
    with pytest.raises(SettingError) as error:
        plan_from(Sources(str(tmp_path / "gemma"), direction=direction, direction_layer=0), EditSettings())
    says(error, "post_feedforward_layernorm", "put the direction")
    llama(width=16).save_pretrained(tmp_path / "narrow")
    with pytest.raises(SettingError) as error:
        plan_from(Sources(str(tmp_path / "narrow"), direction=direction, direction_layer=0), EditSettings())
    says(error, "32 entries")
    with pytest.raises(CheckpointError) as error:
        plan_from(Sources(str(tmp_path / "tied"), direction=direction), EditSettings())
    says(error, "3 directions", "direction_layer")


def test_unrelated_checkpoints_are_told_with_numbers(tmp_path: Path):
    llama().save_pretrained(tmp_path / "base")
    llama(seed=9).save_pretrained(tmp_path / "stranger")
    perturbed(llama(), 1).save_pretrained(tmp_path / "harm")
    plan = plan_from(Sources(str(tmp_path / "base"), (str(tmp_path / "harm"),)), EditSettings())
    assert plan.warnings == []
    assert plan.lineage["harm against base"]["cosine"] > 0.9
    plan = plan_from(
        Sources(str(tmp_path / "base"), (str(tmp_path / "harm"),), target=str(tmp_path / "stranger")), EditSettings()
    )
    assert len(plan.warnings) == 1
    assert "stranger does not look related to" in plan.warnings[0]
    assert plan.lineage["target against base"]["difference"] > 0.5
    assert abs(plan.lineage["cosine of (target − base) with the delta"]) < 0.2
