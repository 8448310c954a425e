"""A fit without a gradient: what it reads, and that any number of processes reads the same."""

import json
import re
from functools import partial

import pytest
import torch
from conftest import llama, numbered, word_tokenizer
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from support.command import sa
from transformers import AutoModelForCausalLM

from sa_lightning import SteeringArtifact
from sa_lightning.callbacks import PairStatesMetric, SteeringCallback, SurgeryCallback
from sa_lightning.cli.common.verb import TRAINER_DEFAULTS
from sa_lightning.datamodules import ARMS, DemonstrationDataModule, ShardedBatchSampler
from sa_lightning.errors import DataError, SettingError
from sa_lightning.module import CausalLMModule
from sa_lightning.steering import fit_directions, read_demonstrations, shuffled, weights_fingerprint
from sa_lightning.surgery import open_checkpoint


def fit(target, demonstrations, output, *callbacks, epochs=1, batch_size=3, **data):
    module = CausalLMModule(str(target))
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=output,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), batch_size=batch_size, **data))
    return module


def by_hand(model, demonstrations):
    """Read the last-token states one conversation at a time, through `output_hidden_states`."""
    tokenizer, sides = word_tokenizer(), {"safe": [], "unsafe": []}
    for pair in read_demonstrations(demonstrations)[0]:
        for side, rows in sides.items():
            text = tokenizer.apply_chat_template(pair.messages(side), tokenize=False, continue_final_message=True)
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
            raw = []
            keep = partial(lambda raw, _module, _inputs, output: raw.append(output[0, -1]), raw)
            hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
            model(ids)
            for hook in hooks:
                hook.remove()
            rows.append(torch.stack(raw))
    return torch.stack(sides["safe"]), torch.stack(sides["unsafe"])


def test_a_fit_finds_the_directions_that_one_finds_by_hand(checkpoints, demonstrations, tmp_path):
    fit(checkpoints / "base", demonstrations, tmp_path, numbered())
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    expected = fit_directions(*by_hand(llama(), demonstrations))
    for layer in range(3):
        assert torch.allclose(artifact.directions["original"][layer], expected[layer], atol=1e-5)
    assert artifact.demonstrations["pairs"] == 7
    assert artifact.fingerprints == {"original": weights_fingerprint(llama())}


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(checkpoints, demonstrations, tmp_path, batch_size):
    extraction = numbered(save=False)
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=batch_size)
    safe, unsafe = by_hand(llama(), demonstrations)
    assert torch.allclose(extraction.states.safe, safe, atol=1e-4)
    assert torch.allclose(extraction.states.unsafe, unsafe, atol=1e-4)


def test_the_lm_head_never_runs_during_a_fit(checkpoints, demonstrations, tmp_path, monkeypatch):
    module = CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    monkeypatch.setattr(module.network.lm_head, "forward", lambda *_: pytest.fail("the LM head ran"))
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=1,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[numbered(save=False)],
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))


def test_with_surgery_both_sets_of_directions_are_fitted_and_the_model_comes_back(
    checkpoints, demonstrations, tmp_path
):
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"), density=0.2, scale=1.0)
    module = fit(checkpoints / "base", demonstrations, tmp_path, surgery, numbered(), epochs=2)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert sorted(artifact.directions) == ["edited", "original"]
    assert weights_fingerprint(module.network) == artifact.fingerprints["original"] == weights_fingerprint(llama())
    edited = llama()
    edited.load_state_dict(load_file(tmp_path / "edited" / "model.safetensors"), strict=False)
    assert weights_fingerprint(edited) == artifact.fingerprints["edited"]
    expected = fit_directions(*by_hand(edited, demonstrations))
    assert torch.allclose(artifact.directions["edited"][2], expected[2], atol=1e-5)
    assert artifact.surgery["settings"]["density"] == 0.2
    assert artifact.surgery["k"] == round(0.2 * artifact.surgery["n"])
    assert json.loads((tmp_path / "edited" / "surgery.json").read_text())["k"] == artifact.surgery["k"]


def test_the_edit_of_a_merged_adapter_is_the_edit_of_its_checkpoint(checkpoints, demonstrations, tmp_path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(checkpoints / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    word_tokenizer().save_pretrained(tmp_path / "adapter")
    surgery = SurgeryCallback(harm=str(checkpoints / "harm"))
    fit(tmp_path / "adapter", demonstrations, tmp_path / "out", surgery, numbered(), epochs=2)
    written, target = open_checkpoint(tmp_path / "out" / "edited"), open_checkpoint(tmp_path / "adapter")
    assert SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact").surgery["base"] == str(checkpoints / "base")
    changed = [name for name in target.names if not torch.equal(written.read(name), target.read(name))]
    assert changed
    edited = llama()
    edited.load_state_dict(load_file(tmp_path / "out" / "edited" / "model.safetensors"), strict=False)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact")
    assert weights_fingerprint(edited) == artifact.fingerprints["edited"]


def test_demonstrations_longer_than_the_context_are_cut_on_the_left_and_counted(checkpoints, demonstrations, tmp_path):
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(), max_length=8)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.demonstrations["truncated"] == 14


def test_nan_weights_are_refused_and_nothing_is_written(checkpoints, demonstrations, tmp_path):
    from sa_lightning.errors import SaError

    broken = llama()
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    word_tokenizer().save_pretrained(tmp_path / "broken")
    with pytest.raises(SaError, match="not finite"):
        fit(tmp_path / "broken", demonstrations, tmp_path / "out", numbered())
    assert not (tmp_path / "out" / "artifact").exists()


def test_every_process_gets_the_same_number_of_batches_and_every_row_counts_once():
    for count in range(1, 8):
        for world in range(1, 5):
            batches = [[2 * index, 2 * index + 1] for index in range(count)]
            dealt = [list(ShardedBatchSampler(batches, rank, world)) for rank in range(world)]
            assert len({len(mine) for mine in dealt}) == 1
            counted = sorted(i for mine in dealt for batch in mine for i, counts in batch if counts)
            assert counted == list(range(2 * count))


def test_a_pair_that_was_not_read_is_an_error():
    metric = PairStatesMetric(2, 1, 4)
    metric.update(torch.ones(2, 1, 4), torch.tensor([0]), torch.tensor([True]))
    with pytest.raises(DataError, match="1 of 2 pairs were not read exactly once"):
        metric.compute()


def sa_fit(directory, checkpoints, demonstrations, *arguments):
    """Run `sa fit` in processes of its own; its directions, and how many processes it says there were."""
    output = directory / "out"
    done = sa(
        *("fit", "--model.target", checkpoints / "base", "--data.demonstrations", demonstrations),
        *("--data.batch_size", "3", "--steering.strength", "0.12", "--output", output),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *arguments),
    )
    assert done.returncode == 0, done.stderr
    processes = json.loads((output / "fit.json").read_text())["processes"]
    return load_file(output / "artifact" / "steering.safetensors"), processes


@pytest.fixture(scope="module")
def by_one_process(checkpoints, demonstrations, tmp_path_factory):
    directory = tmp_path_factory.mktemp("one")
    return sa_fit(directory, checkpoints, demonstrations, "--surgery.harm", str(checkpoints / "harm"))[0]


@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_two_processes_give_the_vectors_of_one_with_uneven_data(
    checkpoints, demonstrations, tmp_path, by_one_process, strategy
):
    """Seven pairs in batches of three are three batches: the last process repeats one, which must not count."""
    options = ["--trainer.devices", "2", "--trainer.strategy", strategy]
    if strategy == "ddp":
        options += ["--surgery.harm", str(checkpoints / "harm")]
    found, processes = sa_fit(tmp_path, checkpoints, demonstrations, *options)
    assert processes == 2
    expected = {key: value for key, value in by_one_process.items() if strategy == "ddp" or "original" in key}
    assert found.keys() == expected.keys()
    for key, one in expected.items():
        assert torch.allclose(one, found[key], atol=1e-6)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "out" / "artifact")
    assert artifact.fingerprints["original"] == weights_fingerprint(llama())


def test_two_processes_give_the_sums_of_one(checkpoints, demonstrations, tmp_path):
    """Where states are only summed, as of more pairs than are kept."""
    options = ["--steering.keep_states", "1", "--steering.direction", "principal_centred"]
    one, _ = sa_fit(tmp_path / "one", checkpoints, demonstrations, *options)
    two, processes = sa_fit(tmp_path / "two", checkpoints, demonstrations, *options, "--trainer.devices", "2")
    assert processes == 2
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-6)


def test_a_surgery_on_split_weights_is_refused_before_anything_is_loaded(checkpoints, demonstrations, tmp_path, capsys):
    from sa_lightning.cli import main

    arguments = ["fit", "--model.target", str(checkpoints / "base"), "--data.demonstrations", str(demonstrations)]
    arguments += ["--output", str(tmp_path), "--trainer.strategy", "sharded", "--surgery.harm", "x"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "A surgery needs whole weights" in capsys.readouterr().err


def test_an_error_on_the_way_gives_the_model_back(checkpoints, demonstrations, tmp_path):
    class Fails(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                assert weights_fingerprint(pl_module.network) != weights_fingerprint(llama())
                raise ZeroDivisionError

    module = CausalLMModule(str(checkpoints / "base"))
    surgery, extraction = SurgeryCallback(harm=str(checkpoints / "harm")), numbered()
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=2,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[surgery, extraction, Fails()],
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    assert weights_fingerprint(module.network) == weights_fingerprint(llama())
    assert not any(part._forward_hooks for part in module.network.modules())
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]  # what the next run goes on from


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_loaded_in_another_type_is_written_as_it_was_fitted(checkpoints, demonstrations, tmp_path, dtype):
    module = CausalLMModule(str(checkpoints / "base"), dtype=dtype)
    trainer = Trainer(
        **TRAINER_DEFAULTS,
        max_epochs=2,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[SurgeryCallback(harm=str(checkpoints / "harm")), numbered()],
    )
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    assert str(written.dtype) == f"torch.{dtype}"
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert weights_fingerprint(written) == artifact.fingerprints["edited"]


def test_a_split_model_does_not_reply(checkpoints, tmp_path, capsys):
    from sa_lightning.cli import main

    arguments = ["validate", "--model.target", str(checkpoints / "base"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--trainer.strategy", "sharded"])
    assert stopped.value.code == 2
    assert "`sa validate` lets it reply" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prefixes_of_a_split_model_are_not_shared(checkpoints, demonstrations, tmp_path, monkeypatch):
    monkeypatch.setattr(CausalLMModule, "sharded", True)
    module = CausalLMModule(str(checkpoints / "base"))
    monkeypatch.setattr(module, "configure_model", lambda: module._loaded.append(llama()))
    monkeypatch.setattr(module, "fingerprint", lambda: "none")
    trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                      default_root_dir=tmp_path, callbacks=[numbered(save=False)])  # fmt: skip
    with pytest.raises(SettingError, match="The processes of a split model run the same forwards"):
        trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), share_prefixes=True))


class StopsAfter(Callback):
    """Interrupts a fit behind a batch, as Ctrl-C or an error would."""

    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            raise ZeroDivisionError


def reading(module):
    """Count the pairs that run."""
    ran = []
    module.configure_model()
    module.network.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: ran.append(len(kwargs["input_ids"]) // 2), with_kwargs=True
    )
    return ran


@pytest.mark.parametrize("keep", [4096, 1])
@pytest.mark.parametrize("at", [(0, 0), (0, 3), (1, 1)])
def test_an_interrupted_fit_goes_on_where_it_stopped(checkpoints, demonstrations, tmp_path, keep, at):
    def run(*callbacks, module=None):
        module = module or CausalLMModule(str(checkpoints / "base"))
        extraction = numbered(keep_states=keep)
        trainer = Trainer(
            **TRAINER_DEFAULTS,
            max_epochs=2,
            accelerator="cpu",
            enable_progress_bar=False,
            default_root_dir=tmp_path,
            callbacks=[SurgeryCallback(harm=str(checkpoints / "harm"), save_edited=False), extraction, *callbacks],
        )
        trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations), batch_size=1, share_prefixes=False))
        return extraction

    with pytest.raises(ZeroDivisionError):
        run(StopsAfter(*at))
    assert not (tmp_path / "artifact").exists()
    module = CausalLMModule(str(checkpoints / "base"))
    ran = reading(module)
    extraction = run(module=module)
    done = at[0] * 7 + at[1] + 1
    assert sum(ran) == 14 - done
    assert sum(extraction.resumed.values()) == done
    assert not (tmp_path / "unfinished").exists()
    whole = numbered(save=False, keep_states=keep)
    fit(checkpoints / "base", demonstrations, tmp_path, SurgeryCallback(harm=str(checkpoints / "harm"),
        save_edited=False), whole, epochs=2, batch_size=1, share_prefixes=False)  # fmt: skip
    for name, layers in whole.artifact.directions.items():
        for layer, direction in layers.items():
            assert torch.allclose(extraction.artifact.directions[name][layer], direction, atol=1e-6)


@pytest.mark.parametrize("where", ["take_in", "of_rows"])
def test_an_interruption_within_the_taking_in_of_a_batch_is_not_kept(where, monkeypatch):
    from sa_lightning.callbacks import pair_states
    from sa_lightning.steering import PairMoments

    metric = PairStatesMetric(6, 1, 4, kept=[0, 5], second=True)
    states, all_counted = torch.randn(8, 1, 4), torch.ones(4, dtype=torch.bool)
    monkeypatch.setattr(pair_states, "TOGETHER", 1)
    metric.update(states, torch.tensor([0, 1, 2, 3]), all_counted)
    assert metric.is_whole()
    assert int(metric.sums.count) == 3
    if where == "take_in":
        monkeypatch.setattr(PairMoments, "take_in", _interrupted)
    else:
        metric.seen = _NoAdding(metric.seen)
    more = states[[0, 1, 4, 5]], torch.tensor([4, 5]), all_counted[:2]
    with pytest.raises(KeyboardInterrupt):
        metric.update(*more)
    assert not metric.is_whole()


def _interrupted(*_args):
    raise KeyboardInterrupt


class _NoAdding(torch.Tensor):
    def __setitem__(self, *_args):
        raise KeyboardInterrupt


def test_what_was_read_with_other_settings_is_left_out(checkpoints, demonstrations, tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(), StopsAfter(0, 1), batch_size=1)
    for settings in ({"tokens": 2}, {"capture_site": "mlp"}, {"layers": [0]}):
        extraction = numbered(**settings)
        with pytest.raises(ZeroDivisionError):
            fit(checkpoints / "base", demonstrations, tmp_path, extraction, StopsAfter(0, 0), batch_size=1)
        assert extraction.resumed == {"original": 0}
    extraction = numbered()
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=1)
    assert extraction.resumed == {"original": 2}


def test_files_of_two_processes_are_merged_and_no_pair_counts_twice(tmp_path):
    from sa_lightning.callbacks.unfinished import UnfinishedStates

    def held(pairs):
        metric = PairStatesMetric(6, 1, 4)
        states = torch.arange(len(pairs) * 8.0).view(-1, 1, 4)
        metric.update(states, torch.tensor(pairs), torch.ones(len(pairs), dtype=torch.bool))
        return metric.tensors()

    key = {"weights": "a"}
    for rank, pairs in enumerate(([0, 2], [1, 3])):
        UnfinishedStates(tmp_path, key, rank).save(held(pairs))
    UnfinishedStates(tmp_path, {"weights": "b"}, 0).save(held([5]))
    (tmp_path / "broken.safetensors").write_bytes(b"half a file")
    first = UnfinishedStates(tmp_path, key, 0)
    found = first.load()
    assert sorted(int(i) for tensors in found for i in tensors["seen"].nonzero()) == [0, 1, 2, 3]
    # Stopped between the merge and the removal of what was merged: the merged file counts, the others do not.
    old = {path: path.read_bytes() for path in tmp_path.glob("*-0-*.safetensors")}
    first.merge(held([0, 1, 2, 3]))
    for path, content in old.items():
        path.write_bytes(content)
    again = UnfinishedStates(tmp_path, key, 0).load()
    assert [tensors["seen"].tolist() for tensors in again] == [[1, 1, 1, 1, 0, 0]]


def test_a_full_disk_costs_the_resumption_and_not_the_run(checkpoints, demonstrations, tmp_path, monkeypatch):
    from sa_lightning.callbacks import unfinished

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unfinished, "save_file", full)
    monkeypatch.setattr(unfinished, "LEAST", 0.0)
    with pytest.warns(UserWarning, match=r"could not be written .* Is the disk full"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(), batch_size=1)
    assert (tmp_path / "artifact").exists()


def test_files_of_another_run_in_the_same_place_stay(checkpoints, demonstrations, tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(tokens=2), StopsAfter(0, 1), batch_size=1)
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(), batch_size=1)
    assert (tmp_path / "artifact").exists()
    extraction = numbered(tokens=2)
    fit(checkpoints / "base", demonstrations, tmp_path, extraction, batch_size=1)
    assert extraction.resumed == {"original": 2}
    assert not (tmp_path / "unfinished").exists()


def test_a_method_that_needs_all_states_is_refused_before_any_is_read(checkpoints, demonstrations, tmp_path):
    for method in ("probe", "whitened", "mean_plus_principal", "principal_concatenated"):
        with pytest.raises(SettingError, match=f"direction {method}` needs the states of all pairs"):
            fit(checkpoints / "base", demonstrations, tmp_path, numbered(method, keep_states=6))
    fit(checkpoints / "base", demonstrations, tmp_path, numbered("probe", keep_states=7))


def test_only_the_layers_asked_for_run_and_get_directions(checkpoints, demonstrations, tmp_path):
    everything = numbered(save=False)
    fit(checkpoints / "base", demonstrations, tmp_path, everything)
    extraction = numbered(layers=[1, 0, 1])
    module = CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    module.network.model.layers[2].register_forward_pre_hook(lambda *_: pytest.fail("a layer ran for nothing"))
    trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                      default_root_dir=tmp_path, callbacks=[extraction])  # fmt: skip
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert sorted(artifact.directions["original"]) == artifact.statistics["original"]["layers"] == [0, 1]
    for layer, direction in artifact.directions["original"].items():
        assert torch.allclose(direction, everything.artifact.directions["original"][layer], atol=1e-5)


def test_the_best_layers_are_chosen_by_what_they_separate(checkpoints, demonstrations, tmp_path):
    from sa_lightning.steering import choose_layers

    fit(checkpoints / "base", demonstrations, tmp_path, numbered(choose_layers=2))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    found = artifact.statistics["original"]
    assert len(found["auroc"]) == 3
    gaps = [float("nan") if gap is None else gap for gap in found["gap"]]
    assert sorted(artifact.directions["original"]) == choose_layers([0, 1, 2], found["auroc"], gaps, 2)


@pytest.mark.parametrize("settings", [{"choose_layers": 4}, {"choose_layers": 2, "layers": [1]}])
def test_more_layers_than_there_are_cannot_be_chosen(checkpoints, demonstrations, tmp_path, settings):
    with pytest.raises(SettingError, match="Layers are chosen among those read"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(**settings))


def test_one_pair_chooses_no_layers(checkpoints, demonstrations, tmp_path):
    with pytest.raises(SettingError, match="and 1 pairs"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(choose_layers=1), limit=1)
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(), limit=1)
    found = SteeringArtifact.from_pretrained(tmp_path / "artifact").statistics["original"]
    assert found["auroc"] == [None] * 3  # not known, and JSON says so


def test_a_strength_per_layer_is_kept_and_acts(checkpoints, demonstrations, tmp_path):
    from sa_lightning import steer

    module = fit(checkpoints / "base", demonstrations, tmp_path, numbered(strength={1: 0.3}))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.strength == {1: 0.3}
    assert artifact.steered_layers("original") == [1]
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert re.findall(r"\| original \| (\d) .* \| (\S+) \|", card) == [("0", "–"), ("1", "0.3"), ("2", "–")]
    ids, raw = torch.tensor([[1, 7, 8, 9]]), []
    for layer in module.network.model.layers:
        layer.register_forward_hook(lambda _m, _i, output: raw.append(output))
    module.network(ids)
    with steer(module.network, artifact):  # its hooks come after ours: what we see of layer 2 is the first to differ
        module.network(ids)
    same = [torch.equal(raw[layer], raw[layer + 3]) for layer in range(3)]
    assert same == [True, True, False]


def test_questions_alone_give_the_direction_from_harmful_to_harmless(checkpoints, tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [
        {"harmless": f"how do i bake a {noun}", "harmful": f"how do i break a {noun}"} for noun in ("cake", "window")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for position in ("last", "end_of_prompt", "end_of_instruction"):
        extraction = numbered(position=position, save=False)
        fit(checkpoints / "base", path, tmp_path, extraction)
        found[position] = extraction.states.safe
    assert torch.equal(found["last"], found["end_of_prompt"])
    assert not torch.allclose(found["last"], found["end_of_instruction"], atol=1e-2)
    with pytest.raises(DataError, match=r"Pair 1 of questions.jsonl: .*no first token of a response"):
        fit(checkpoints / "base", path, tmp_path, numbered(position="first_response"))


def test_a_place_that_both_answers_share_is_refused(checkpoints, demonstrations, tmp_path):
    with pytest.raises(DataError, match="have the same states"):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(position="end_of_prompt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 0}, "`steering.tokens` must be at least 1"),
        ({"choose_layers": 0}, "`steering.choose_layers` must be at least 1"),
        ({"layers": []}, "`steering.layers` is empty"),
        ({"layers": [0], "strength": {1: 0.1}}, "A strength without a direction would be ignored"),
        ({"layers": [0, 1], "strength": {}}, "A strength without a direction would be ignored"),
        ({"choose_layers": 1, "strength": {1: 0.1}}, "Either the layers are chosen, or they are named"),
        ({"tokens": 4, "position": "first_response"}, "Several tokens are averaged at the end only"),
        ({"intervention": "ablate", "strength": 2.0}, "`ablate` takes a fraction of the component"),
        ({"strength": {0: 0.1, 1: 3.0}}, "of layer 1 is 3.0"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, message):
    with pytest.raises(SettingError, match=message):
        numbered(**settings)


def test_a_layer_that_does_not_exist_is_named(checkpoints, demonstrations, tmp_path):
    for settings in ({"layers": [3]}, {"strength": {3: 0.1}}):
        with pytest.raises(SettingError, match=r"name \[3\], but .* has 3 layers, 0 to 2"):
            fit(checkpoints / "base", demonstrations, tmp_path, numbered(**settings))


def test_blocks_at_a_given_path_are_used_and_remembered(checkpoints, demonstrations, tmp_path):
    from sa_lightning import steer
    from sa_lightning.errors import ModelError

    module = CausalLMModule(str(checkpoints / "base"), blocks="layers")
    trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                      default_root_dir=tmp_path, callbacks=[numbered()])  # fmt: skip
    trainer.fit(module, datamodule=DemonstrationDataModule(str(demonstrations)))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.blocks == "layers"
    with steer(module.network, artifact):
        pass
    artifact.blocks = "model.wrong"
    with pytest.raises(ModelError, match=r"at `model.wrong`.*model.layers \(3\)"), steer(module.network, artifact):
        pass


def test_shuffled_demonstrations_are_read_in_any_batches_and_the_artifact_says_so(
    checkpoints, demonstrations, tmp_path
):
    safe, unsafe = by_hand(llama(), demonstrations)
    pairs = shuffled(list(zip(safe, unsafe, strict=True)), 4)
    expected = fit_directions(*(torch.stack(side) for side in zip(*pairs, strict=True)), method="mean")
    for batch_size in (1, 7):
        output = tmp_path / str(batch_size)
        control = numbered(direction="mean", control="shuffled", control_seed=4)
        fit(checkpoints / "base", demonstrations, output, control, batch_size=batch_size)
        artifact = SteeringArtifact.from_pretrained(output / "artifact")
        found = torch.stack([direction for _, direction in sorted(artifact.directions["original"].items())])
        assert torch.allclose(found, expected, atol=1e-5)
        assert artifact.control == {"kind": "shuffled", "seed": 4}
        assert artifact.demonstrations["pairs"] == 6  # of seven, in pairs of pairs
        assert "This is a control, not a method" in (output / "artifact" / "README.md").read_text()


def test_random_directions_take_the_place_of_fitted_ones_behind_the_same_layers(checkpoints, demonstrations, tmp_path):
    plain, drawn = (
        numbered(choose_layers=2, strength=0.2, save=False, control=control, control_seed=9)
        for control in ("none", "random")
    )
    surgery = [SurgeryCallback(harm=str(checkpoints / "harm"), save_edited=False) for _ in range(2)]
    for callback, edit in zip((plain, drawn), surgery, strict=True):
        fit(checkpoints / "base", demonstrations, tmp_path, edit, callback, epochs=2)
    assert plain.artifact.control is None
    assert drawn.artifact.fingerprints == plain.artifact.fingerprints
    assert drawn.artifact.statistics == plain.artifact.statistics
    for name, layers in plain.artifact.directions.items():
        expected = plain.artifact.randomised(9).directions[name]
        assert sorted(drawn.artifact.directions[name]) == sorted(layers)
        assert all(torch.equal(drawn.artifact.directions[name][layer], expected[layer]) for layer in layers)
        assert not any(torch.equal(expected[layer], layers[layer]) for layer in layers)


def test_data_that_a_control_has_shuffled_are_as_before_for_the_next_fit(checkpoints, demonstrations, tmp_path):
    """As in a sweep, which keeps model and demonstrations from trial to trial."""
    module, data = CausalLMModule(str(checkpoints / "base")), DemonstrationDataModule(str(demonstrations))
    found = []
    for control in ("none", "shuffled", "none"):
        callback = numbered(control=control, save=False)
        trainer = Trainer(**TRAINER_DEFAULTS, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
                          callbacks=[callback], default_root_dir=tmp_path)  # fmt: skip
        trainer.fit(module, datamodule=data)
        found.append(callback.artifact.directions["original"][0])
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=0.1)


def test_one_pair_cannot_be_shuffled(checkpoints, demonstrations, tmp_path):
    with pytest.raises(SettingError, match=r"shuffled, and there is 1 pair\."):
        fit(checkpoints / "base", demonstrations, tmp_path, numbered(control="shuffled"), limit=1)


@pytest.mark.parametrize("strength", [0.0, {1: 0.0}])
def test_a_fit_of_strength_0_steers_nothing_in_any_arm(checkpoints, demonstrations, tmp_path, strength):
    fit(checkpoints / "base", demonstrations, tmp_path, numbered(strength=strength))
    artifact = SteeringArtifact.from_pretrained(tmp_path / "artifact")
    assert artifact.controls() == ["nothing is steered: strength 0"]
    model, ids = llama(), torch.tensor([[6, 7, 8, 9]])
    before = model(ids).logits
    callback, module = SteeringCallback(str(tmp_path / "artifact")), CausalLMModule(str(checkpoints / "base"))
    module.configure_model()
    callback.on_validation_batch_start(None, module, ARMS[1], 0)
    assert torch.equal(module.network(ids).logits, before)
    callback.on_validation_batch_end()


def test_two_processes_shuffle_as_one_does(checkpoints, demonstrations, tmp_path):
    options = ["--steering.control", "shuffled", "--steering.control_seed", "2"]
    one, _ = sa_fit(tmp_path / "one", checkpoints, demonstrations, *options)
    two, processes = sa_fit(tmp_path / "two", checkpoints, demonstrations, *options, "--trainer.devices", "2")
    assert processes == 2
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)
    artifact = SteeringArtifact.from_pretrained(tmp_path / "two" / "out" / "artifact")
    assert artifact.control == {"kind": "shuffled", "seed": 2}
