"""The states that gates read of prompts, taken on the way of an ordinary forward."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sa_lightning.errors import ModelError
from sa_lightning.steering.runtime.component import Component
from sa_lightning.steering.runtime.running import Bound
from sa_lightning.steering.runtime.states import hidden_of


class PromptReader:
    """Keeps states of the layers that gates read, while it is on.

    Attributes:
        layers: Which layers, in order.
        averages: Whether a gate reads means.
        on: Whether forwards are read now.
        mask: 1 at tokens that are no padding, shape (batch, pos); none where all are.
        ends: By layer, states at the last token, shape (batch, d_model), float32.
        means: By layer, their mean over the tokens of `mask`, of the same shape.
    """

    def __init__(self, layers: Sequence[nn.Module], components: Sequence[Component]) -> None:
        self.layers = tuple(sorted({layer for component in components for layer in component.gate.layers}))
        self.averages = any("mean" in component.gate.reads for component in components)
        self.on = False
        self.mask: Tensor | None = None
        self.ends: dict[int, Tensor] = {}
        self.means: dict[int, Tensor] = {}

    def hook(self, index: int) -> Callable[..., None]:
        """Return the forward hook of a layer."""

        def read(module: nn.Module, _args: Any, output: Any) -> None:
            if not self.on:
                return
            hidden = hidden_of(module, output).detach()
            self.ends[index] = hidden[:, -1].float().clone()
            if self.averages:
                real = torch.ones_like(hidden[..., 0]) if self.mask is None else self.mask.to(hidden.device)
                real = real.float()[..., None]
                self.means[index] = (hidden.float() * real).sum(1) / real.sum(1)

        return Bound(read)

    def states(self, found: dict[int, Tensor]) -> Tensor:
        """Stack `ends` or `means`, shape (batch, layers, d_model), on the device of the first layer.

        Raises:
            ModelError: If a layer did not run.
        """
        if missing := [layer for layer in self.layers if layer not in found]:
            raise ModelError(
                f"Layers {missing}, which a gate reads, did not run, or in a way that no hook sees.\n"
                "Without their states nothing can be decided.\nUse the model as it was loaded, or fit without a gate."
            )
        device = found[self.layers[0]].device
        return torch.stack([found[layer].to(device) for layer in self.layers], dim=1)
