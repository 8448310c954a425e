"""Where a block's MLP writes: the one linear map whose output is the MLP's, found by running it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sa_lightning.errors import ModelError
from sa_lightning.models import locate_blocks
from sa_lightning.steering.runtime.hooks import Stopped

__all__ = ["DownProjection", "down_projection"]


@dataclass(frozen=True)
class DownProjection:
    """The down projection of a block's MLP: y = W k + b.

    Attributes:
        layer: Of the block, from 0.
        name: Of its weight, as the model has it.
        module: It.
        input_first: Whether the weight is stored (in, out), as in GPT-2.
    """

    layer: int
    name: str
    module: Any
    input_first: bool

    @property
    def weight(self) -> Tensor:
        """W, (out, in), in float32."""
        wide = self.module.weight.detach().float()
        return wide.T if self.input_first else wide


@torch.no_grad()
def down_projection(model: nn.Module, layer: int) -> DownProjection:
    """Find the linear map whose output the MLP of a block returns, whatever it is called.

    Raises:
        ModelError: If there is no such block, or its MLP returns what no single linear map has written: a mixture of
            experts, whose output is a sum over experts; or if its weights are packed.
    """
    blocks = locate_blocks(model)
    decoder: Any = blocks.decoder
    if not 0 <= layer < len(blocks.layers):
        raise ModelError(
            f"There is no block {layer} in {_called(model)}; its blocks are 0 to {len(blocks.layers) - 1}.\n"
            "A fact is written into the MLP of one block.\nGive another `facts_layers`."
        )
    mlp = blocks.at("mlp")[layer]
    linear = {name: module for name, module in mlp.named_modules() if _is_linear(module)}
    written: dict[str, Tensor] = {}
    hit: list[str] = []

    def end(_module: nn.Module, _inputs: Any, output: Any) -> None:
        rows = (output[0] if isinstance(output, tuple) else output).flatten()
        hit.extend(name for name, own in written.items() if own.shape == rows.shape and torch.equal(own, rows))
        raise Stopped

    handles = [
        module.register_forward_hook(
            lambda _m, _i, output, name=name: written.__setitem__(name, output.detach().flatten().clone())
        )
        for name, module in linear.items()
    ]
    handles.append(mlp.register_forward_hook(end))
    try:
        device = next(decoder.parameters()).device
        decoder(input_ids=torch.tensor([[1, 2]], device=device), use_cache=False)
    except Stopped:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if not hit:
        raise ModelError(_not_found(model, layer, mlp))
    module: Any = linear[hit[-1]]
    if not module.weight.is_floating_point():
        raise ModelError(
            f"The down projection of block {layer} of {_called(model)} has packed weights ({module.weight.dtype}).\n"
            "A step of rank one cannot be added to them.\nLoad the model in bfloat16, and edit that."
        )
    name = next(name for name, parameter in model.named_parameters() if parameter is module.weight)
    return DownProjection(layer, name, module, not isinstance(module, nn.Linear))


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _called(model: Any) -> str:
    return str(getattr(model, "name_or_path", "") or type(model).__name__)


def _not_found(model: Any, layer: int, mlp: nn.Module) -> str:
    config = model.config.get_text_config(decoder=True)
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    experts = next((count for name in names if (count := getattr(config, name, None))), None)
    if experts:
        return (
            f"The MLP of block {layer} of {_called(model)} is a mixture of {experts} experts ({type(mlp).__name__}).\n"
            "A fact is written into one down projection, and each token goes through those of several experts.\n"
            "Choose a dense model, or a block whose MLP is dense: `facts_layers`."
        )
    return (
        f"What the MLP of block {layer} of {_called(model)} ({type(mlp).__name__}) returns, no linear map of it has "
        "written.\nA fact is written into the last linear map of an MLP.\nFacts cannot be edited in this family."
    )
