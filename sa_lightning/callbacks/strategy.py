"""Strategies for several processes of which none trains anything."""

from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, StrategyRegistry
from typing_extensions import override


class FrozenDDPStrategy(DDPStrategy):
    """Data-parallel processes around a frozen model.

    PyTorch refuses to wrap a module without a parameter that requires a gradient. There is
    nothing to synchronise but the metrics, which torchmetrics does, so nothing is wrapped.
    """

    strategy_name = "frozen_ddp"

    def __init__(self, *args: Any, timeout: timedelta | None = timedelta(days=7), **settings: Any) -> None:
        # A process may wait long for another's last batch of replies.
        super().__init__(*args, timeout=timeout, **settings)

    @override
    def configure_ddp(self) -> None:
        if any(parameter.requires_grad for parameter in self.model.parameters()):  # type: ignore[union-attr]
            super().configure_ddp()


class ShardedStrategy(ModelParallelStrategy):
    """A frozen model whose blocks are split over all processes, for models that no single device holds (FSDP2).

    Each process reads batches of its own, and all run their forwards together.
    """

    strategy_name = "sharded"

    @override
    def setup_environment(self) -> None:
        # Lightning's `auto` would split matrices within a node. Here every process takes part in data parallelism.
        assert self.cluster_environment is not None
        self._tensor_parallel_size = 1
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


DESCRIPTIONS: dict[Any, str] = {
    FrozenDDPStrategy: "Several processes around a frozen model: extraction and validation in parallel.",
    ShardedStrategy: "A frozen model split over several processes: extraction from models larger than a device.",
}
for strategy, description in DESCRIPTIONS.items():
    if strategy.strategy_name not in StrategyRegistry:
        StrategyRegistry.register(strategy.strategy_name, strategy, description=description)
