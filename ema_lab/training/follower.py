"""Callback of the ranks that train a run and write nothing."""

from lightning.pytorch import LightningModule, Trainer

from ema_lab.training.callbacks import EpochEnd


class Follower(EpochEnd):
    """Counterpart of `EpochEnd` in ranks that write nothing: it restores where a resumed run continues."""

    @property
    def state_key(self) -> str:
        return EpochEnd.__qualname__

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: rank 0 evaluates and writes, and the others wait for it in the next step."""
