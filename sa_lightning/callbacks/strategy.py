"""A strategy for several processes of which none trains anything."""

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from typing_extensions import override


class FrozenDDPStrategy(DDPStrategy):
    """Data-parallel processes around a frozen model.

    PyTorch refuses to wrap a module without a parameter that requires a gradient. There is
    nothing to synchronise but the metrics, which torchmetrics does, so nothing is wrapped.
    """

    strategy_name = "frozen_ddp"

    @override
    def configure_ddp(self) -> None:
        if any(parameter.requires_grad for parameter in self.model.parameters()):  # type: ignore[union-attr]
            super().configure_ddp()


if FrozenDDPStrategy.strategy_name not in StrategyRegistry:
    StrategyRegistry.register(
        FrozenDDPStrategy.strategy_name,
        FrozenDDPStrategy,
        description="Several processes around a frozen model: extraction and validation in parallel.",
    )
