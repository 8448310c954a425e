"""ExtractionCallback: read the states after demonstrations, fit directions, write the artifact."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.callbacks.surgery import SurgeryCallback
from sa_lightning.errors import DataError, SettingError
from sa_lightning.models import last_positions
from sa_lightning.models.blocks import Site
from sa_lightning.steering import (
    PairStates,
    SteeringArtifact,
    capture,
    check_strength,
    fit_directions,
    gather_mean,
    weights_fingerprint,
)
from sa_lightning.steering.hooks import Captured


class PairStatesMetric(Metric):
    """States of every pair, one row a pair, summed over processes.

    Each process fills the rows it has seen and leaves the others 0, so the sum over processes
    is exact: the vectors of two processes are those of one. Rows come in any order, and a
    repeated pair that does not count is dropped.

    Args:
        pairs: Number of pairs.
        layers: Number of sites read.
        d_model: Width.
    """

    full_state_update = False
    safe: Tensor
    unsafe: Tensor
    seen: Tensor

    def __init__(self, pairs: int, layers: int, d_model: int) -> None:
        super().__init__()
        for side in ("safe", "unsafe"):
            self.add_state(side, torch.zeros(pairs, layers, d_model), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(pairs, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        states: Float[Tensor, "two_batch layers d_model"],
        pairs: Int[Tensor, " batch"],
        counted: Tensor,
    ) -> None:
        """Store the states of a batch: safe sides first, then unsafe ones, in the order of `pairs`."""
        safe, unsafe = states.chunk(2)
        rows = pairs[counted]
        self.safe[rows] = safe[counted]
        self.unsafe[rows] = unsafe[counted]
        self.seen[rows] += 1

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the states of all pairs, safe and unsafe.

        Raises:
            DataError: If a pair was seen by no process, or by more than one.
        """
        if not bool((self.seen == 1).all()):
            raise DataError(
                f"{int((self.seen != 1).sum())} of {len(self.seen)} pairs were not read exactly once.\n"
                "A direction is fitted on all pairs. Were batches limited with `--trainer.limit_train_batches`?\n"
                "Use `--data.limit` to read fewer pairs."
            )
        return self.safe.cpu(), self.unsafe.cpu()


class ExtractionCallback(Callback):
    """Fit one safety direction per layer, on the original and, after surgery, on the edited weights.

    Each epoch is one pass over the demonstrations with the weights as they are then.

    Args:
        direction: `principal` is the paper's first principal direction of safe − unsafe, layer by layer;
            `principal_concatenated` the same over all layers laid end to end; `mean` the difference of means;
            `mean_plus_principal` what the authors' code computes.
        tokens: Average the states at the last so many tokens of the answer. The paper reads 1, the
            authors' code 4.
        capture_site: Where the states are read: the `residual` stream behind a block, or the output of
            its `mlp` or `attention`.
        site: Where the directions will act. The paper says the residual stream, the authors' code `mlp`.
        layers: Blocks to steer, from 0; all if not set.
        intervention: `add_keep_norm` adds and rescales to the old norm (paper, Eq. 9-10); `add_keep_norm_adaptive`
            takes the longer step of the authors' code at unsafe states; `add` does not rescale.
        strength: Step as a fraction of the norm of each state. The paper's α = 0.12 has no stated unit; in the
            authors' code it comes to 0.012.
        save: Write <output>/artifact at the end.
    """

    def __init__(
        self,
        direction: Literal["principal", "principal_concatenated", "mean", "mean_plus_principal"] = "principal",
        tokens: int = 1,
        capture_site: Site = "residual",
        site: Site = "residual",
        layers: list[int] | None = None,
        intervention: Literal["add_keep_norm", "add_keep_norm_adaptive", "add"] = "add_keep_norm",
        strength: float = 0.12,
        save: bool = True,
    ) -> None:
        if tokens < 1:
            raise SettingError(
                f"`steering.tokens` is how many last tokens are averaged and must be at least 1, but is {tokens}.\n"
                "A direction is read from states.\nThe paper reads 1, the authors' code 4."
            )
        check_strength(strength)
        self.direction = direction
        self.tokens = tokens
        self.capture_site: Site = capture_site
        self.site: Site = site
        self.layers = layers
        self.intervention = intervention
        self.strength = strength
        self.save = save
        self.artifact: SteeringArtifact | None = None
        self.states: dict[str, PairStates] = {}
        self._metric: PairStatesMetric | None = None
        self._hooks = ExitStack()
        self._captured: Captured | None = None

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        text: Any = pl_module.text_config
        depth: int = text.num_hidden_layers
        wrong = [layer for layer in self.layers or () if not 0 <= layer < depth]
        if wrong:
            raise SettingError(
                f"`steering.layers` names {wrong}, but {pl_module.target} has {depth} layers, 0 to {depth - 1}.\n"
                "A direction acts behind a block that exists.\nMend the list, or leave it out for all layers."
            )

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        text: Any = pl_module.text_config
        self._metric = PairStatesMetric(len(data.pairs), text.num_hidden_layers, text.hidden_size)
        self._metric.to(pl_module.device).reset()
        self.artifact = SteeringArtifact(
            directions={},
            fingerprints={},
            model=pl_module.target,  # type: ignore[arg-type]
            num_layers=text.num_hidden_layers,
            d_model=text.hidden_size,
            site=self.site,
            intervention=self.intervention,
            strength=self.strength,
            template=pl_module.template,  # type: ignore[arg-type]
        )

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        positions, valid = last_positions(batch["attention_mask"], self.tokens)
        read = partial(gather_mean, positions=positions, valid=valid)
        modules = pl_module.blocks.at(self.capture_site)  # type: ignore[union-attr]
        self._captured = self._hooks.enter_context(capture(modules, read))

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._hooks.close()
        assert self._metric is not None
        assert self._captured is not None
        self._metric.update(self._captured.stacked(), batch["pairs"], batch["counted"])

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._metric is not None
        assert self.artifact is not None
        states = PairStates(*self._metric.compute())
        self._metric.reset()
        surgery = SurgeryCallback.of(trainer)
        name = "edited" if surgery is not None and surgery.applied else "original"
        fitted = fit_directions(states.safe, states.unsafe, self.direction)
        layers = range(self.artifact.num_layers) if self.layers is None else sorted(self.layers)
        self.states[name] = states
        self.artifact.directions[name] = {layer: fitted[layer] for layer in layers}
        self.artifact.statistics[name] = states.statistics(fitted)
        self.artifact.fingerprints[name] = weights_fingerprint(pl_module.network)  # type: ignore[arg-type]

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.artifact is not None
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        surgery = SurgeryCallback.of(trainer)
        provenance = ProvenanceCallback.of(trainer)
        self.artifact.demonstrations = data.provenance
        self.artifact.surgery = surgery.record() if surgery is not None and "edited" in self.states else None
        self.artifact.command, self.artifact.versions = provenance.command, provenance.versions
        if self.save and trainer.is_global_zero:
            self.artifact.save_pretrained(Path(trainer.default_root_dir) / "artifact", config=provenance.config)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._hooks.close()
