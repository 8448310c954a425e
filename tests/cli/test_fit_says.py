"""What `sa fit` prints and draws of gates."""

import io
from types import SimpleNamespace

from rich.console import Console

from sa_lightning.cli.fit import _say_gate


def said(function, tmp_path, **artifact):
    steering = SimpleNamespace(artifact=SimpleNamespace(**artifact))
    console = Console(file=io.StringIO(), width=160)
    function(steering, tmp_path, console)
    return console.file.getvalue()


def test_a_gate_is_drawn_for_each_set_of_weights_as_far_as_it_was_recorded(tmp_path):
    told = {"threshold": 0.5, "held_out": 4, "auroc": 1.0, "harmful": [2, 2], "harmless": [0, 2]}
    layers = {"layer_auroc": {"layers": [1, 2], "auroc": [0.5, 1.0]}}
    text = said(_say_gate, tmp_path, gate={"sets": {"original": told | layers, "edited": told | layers}})
    assert (tmp_path / "gate.svg").is_file()
    assert (tmp_path / "gate-edited.svg").is_file()
    assert text.count("each layer alone") == 2
    assert "gate" not in said(_say_gate, tmp_path, gate={"sets": {"original": told}}).replace("Gate, ", "")
    assert not list(tmp_path.iterdir())  # nothing of an earlier fit stays
    assert said(_say_gate, tmp_path, gate=None) == ""
