"""ExtractionCallback: read the states of demonstrations, fit an artifact, write it."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sa_lightning.callbacks.pair_states import PairStatesMetric
from sa_lightning.callbacks.provenance import ProvenanceCallback
from sa_lightning.callbacks.surgery import SurgeryCallback
from sa_lightning.callbacks.unfinished import UnfinishedStates
from sa_lightning.errors import SaError
from sa_lightning.fitting import ArtifactFit, StateReader, SteeringSettings
from sa_lightning.models import PassageBatch
from sa_lightning.steering import PairStates, SteeringArtifact

HELD_OUT = 512  # pairs whose states are kept where the others are only summed


class ExtractionCallback(Callback):
    """Fit rules of steering, on the original and, after surgery, on the edited weights.

    Each epoch is one pass over the demonstrations with the weights as they are then. The fit itself is that of
    `fitting.ArtifactFit`, which is its attribute `fit` from `setup` on; here batches are read, by one process or many,
    and what an interrupted run has read is kept.

    Args:
        save: Write <output>/artifact at the end, and meanwhile what an interrupted run needs to go on.
        **settings: As of `fitting.SteeringSettings`.

    Attributes:
        settings: What is fitted, and how.
        artifact: At the end.
        states: Of the last pass, in the first process.
        resumed: Name of a set of weights to the number of pairs that an interrupted run had read.
    """

    def __init__(self, save: bool = True, **settings: Any) -> None:
        self.settings = SteeringSettings(**settings)
        self.save = save
        self.fit = ArtifactFit(self.settings)
        self.artifact: SteeringArtifact | None = None
        self.states: PairStates | None = None
        self.resumed: dict[str, int] = {}
        self._metric: PairStatesMetric | None = None
        self._reader: StateReader | None = None
        self._unfinished: list[UnfinishedStates] = []  # one a pass
        self._done = torch.zeros(0, dtype=torch.bool)
        self._agree: Any = None
        self._weights = ""  # fingerprint of those that the model has

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.fit.data = _data(trainer).demonstrations
        surgery = SurgeryCallback.there(trainer)
        if surgery is not None:
            self.fit.area = lambda: surgery.edit_area(str(pl_module.target), pl_module.revision)
        depth = pl_module.text_config.num_hidden_layers
        self.fit.check(pl_module.name, depth, pl_module.sharded, pl_module.tokenizer)
        self.settings = self.fit.settings

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.fit.begin(pl_module)
        pl_module.observe = self.observe
        chosen = self.settings
        self._reader = StateReader(
            pl_module.network, pl_module.blocks, chosen.capture_site, chosen.named_layers, whole=pl_module.sharded
        )
        _data(trainer).reader = self._reader

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.states = self._metric = None
        self._weights = pl_module.fingerprint()
        if not self.settings.fits_pairs:
            return
        chosen, data, text = self.settings, self.fit.data, pl_module.text_config
        layers = list(range(text.num_hidden_layers)) if chosen.named_layers is None else chosen.named_layers
        count = data.count
        kept = range(0, count, max(5, -(-count // HELD_OUT))) if count > chosen.keep_states else None
        self._metric = PairStatesMetric(count, len(layers), text.hidden_size, kept, second=chosen.method != "mean")
        self._agree = trainer.strategy.reduce_boolean_decision if pl_module.sharded else None
        self._done = torch.zeros(count, dtype=torch.bool)
        if self.save:
            passages = data.fingerprint(data.passages(pl_module.tokenizer, pl_module.max_length))
            read = {"passages": passages, "config": pl_module.text_config.to_json_string()}
            read |= {"site": chosen.capture_site, "blocks": pl_module.blocks.path, "layers": layers}
            key = {"weights": self._weights, **read}
            unfinished, self._done = UnfinishedStates.resume(trainer, key, self._metric)
            self._unfinished.append(unfinished)
            self.resumed[_set(trainer)] = int(self._done.sum())

    def observe(self, batch: PassageBatch) -> None:
        """Read the pairs of a batch that are this process's to read and not read yet."""
        if self._metric is None:
            return
        assert self._reader is not None
        wanted = batch.counted & ~self._done.to(batch.groups.device)[batch.groups]
        nothing = not bool(wanted.any())
        if self._agree is not None:  # the processes of a sharded model run all forwards together
            nothing = self._agree(nothing, all=True)
        if nothing:
            return
        self._metric.update(self._reader(batch), batch.groups, wanted)
        self.fit.report("reading pairs", int(self._metric.seen.sum()), len(self._metric.seen))
        if self._unfinished and self._unfinished[-1].due():
            self._unfinished[-1].save(self._metric.tensors())

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        name, found = _set(trainer), None
        self.fit.report(f"fitting on {name} weights", 0, 0)
        if self._metric is not None:
            several = trainer.world_size > 1
            if self._unfinished:
                # Another pass may be interrupted, other processes may fail, and the fit itself may take long.
                another = trainer.max_epochs != trainer.current_epoch + 1
                if several or another or self._unfinished[-1].due():
                    self._unfinished[-1].save(self._metric.tensors())
            self.states = self._metric.collected(trainer.strategy.root_device if several else None)
            self._metric.reset()
            found = trainer.strategy.broadcast(self._fitted())
            if isinstance(found, SaError):
                raise found
        self.fit.add(name, self._weights, found)

    def _fitted(self) -> Any:
        """Fit in the first process; an error is handed to all, so that none waits for ever."""
        try:
            return None if self.states is None else self.fit.pairs(self.states)
        except SaError as error:
            return error

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        surgery, provenance = SurgeryCallback.of(trainer), ProvenanceCallback.of(trainer)
        record = None if surgery is None else surgery.record()
        self.artifact = self.fit.finish(record, provenance.command, provenance.versions)
        if self.save and trainer.is_global_zero:
            self.artifact.save_pretrained(Path(trainer.default_root_dir) / "artifact", config=provenance.config)
        trainer.strategy.barrier()
        if trainer.local_rank == 0:  # on every node, should they not share a disk
            for unfinished in self._unfinished:
                unfinished.remove()

    @override
    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        pl_module.observe = _data(trainer).reader = None

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        useless = isinstance(exception, SaError)  # a mistake to be mended first
        if useless and self._unfinished and self._unfinished[0].is_young():
            for unfinished in self._unfinished:
                unfinished.remove()
        metric = self._metric
        if self._unfinished and metric is not None and bool(metric.seen.any()) and metric.is_whole() and not useless:
            self._unfinished[-1].save(metric.tensors())


def _set(trainer: Trainer) -> str:
    """Which weights the model has now."""
    surgery = SurgeryCallback.of(trainer)
    return "edited" if surgery is not None and surgery.applied else "original"


def _data(trainer: Trainer) -> Any:
    """The run's DemonstrationDataModule."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it when a run starts
