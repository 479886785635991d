"""One training: its optimizer steps, its records and its state on disk."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clipvg.errors import InputError
from clipvg.features import FeatureBatch, FeatureCache
from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.ops.linear import fast_cpu
from clipvg.runtime import distributed
from clipvg.runtime.files import GONE, Json, write_lines
from clipvg.training.batches import AnyBatch, Boxes, standardise_projections
from clipvg.training.config import FitConfig, learning_rate_factor
from clipvg.training.evaluate import evaluate
from clipvg.training.losses import box_losses
from clipvg.training.order import Order, Part
from clipvg.training.state import (
    METRICS,
    EpochLosses,
    History,
    MovingAverage,
    load_trainable,
    save_checkpoint,
    seed_dropout,
    trainable_state,
    write_model,
)

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Best:
    """Epoch (from 1) with the highest validation Acc@0.5, and that accuracy in [0, 1]."""

    epoch: int
    accuracy: float


@dataclass
class Fit:
    """Result of a training.

    Attributes:
        model: the trained model, in evaluation mode: the best epoch's weights when there were
            validation labels, else the last ones.
        history: (epochs, N) float16 loss of each label by epoch, NaN where not visited or of
            weight 0; None when not recorded. Mapped from disk when the training has a folder.
        metrics: one dict per epoch: epoch, step, lr, loss, loss_l1, loss_giou and, where
            evaluated, val_acc_0.5 and val_mean_iou.
        best: epoch and validation Acc@0.5 of the weights in `model`; None without validation.
        seconds: time in the training loop, over all attempts of a resumed run; of trainings that
            run together, each one's share.
        steps: optimizer steps done; fewer than the options say if `fit_many` dropped it.
        teacher: a model with the moving average of the weights; None without `FitConfig.ema`.
    """

    model: GroundingModel
    history: np.ndarray | None
    metrics: list[dict[str, float]]
    best: Best | None
    seconds: float
    steps: int
    teacher: GroundingModel | None = None


class Trainer:
    """State of one training; `fit` makes it, `Loop` runs it."""

    def __init__(
        self,
        model: GroundingModel,
        order: Order,
        config: FitConfig,
        weight: np.ndarray,
        *,
        identity: Json,
        validation: LabelTable | None,
        folder: Path | None,
    ) -> None:
        self.model, self.order, self.config, self._identity = model, order, config, identity
        self.world, self.device, self.folder = order.world, model.device, folder
        model.forget_quality()
        self.validation = validation
        self._features: FeatureCache | None = None
        self._progress = False
        self.per_epoch = order.steps_per_epoch
        self.steps = config.steps or config.epochs * self.per_epoch
        self._weight = weight
        self._weight_here = torch.from_numpy(weight).to(self.device)
        self._params = list(model.trainable_parameters())
        distributed.broadcast((p.data for p in self._params), self.world)
        self._forward = distributed.data_parallel(Boxes(model), self.world)
        self._lr = config.scaled_lr(self.world.size)
        self._optimizer = torch.optim.AdamW(
            self._params,
            lr=self._lr,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self._average = MovingAverage(model, config.ema) if config.ema else None
        self._losses = EpochLosses(len(weight), self.device)
        self.history: History | None = None
        self.metrics: list[dict[str, float]] = []
        self.best: Best | None = None
        self._best_state: dict[str, Tensor] = {}
        self.rungs: dict[int, float] = {}
        self.step = 0
        self.seconds = 0.0
        self._leaves_out = self.world.size == 1 and model.config.dropout == 0

    def serve(self, features: FeatureCache | None, *, progress: bool) -> None:
        """Prepare for training; `features` and `progress` are for the validation."""
        self._features = features
        self._progress = progress and self.world.is_main
        self.model.train()

    def standardise(self, batch: AnyBatch) -> None:
        """Calibrate the fresh projections on the first batch."""
        standardise_projections(self.model, batch.to(self.device))
        distributed.broadcast((p.data for p in self._params), self.world)

    @property
    def autocast(self) -> AbstractContextManager[object]:
        """Context of the forward pass."""
        dtype = _AUTOCAST.get(self.config.amp)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def result(self) -> Fit:
        """Load the best weights into the model, save it to the folder, and return the result."""
        history = None if self.history is None else self.history.read()
        if self.best is not None:
            load_trainable(self.model, self._best_state)
        self.model.eval()
        if self.folder is not None and self.world.is_main:
            write_model(self.model, self.folder)
        distributed.barrier(self.world)
        teacher = None if self._average is None else self._average.model()
        return Fit(self.model, history, self.metrics, self.best, self.seconds, self.step, teacher)

    def update(self, loaded: Sequence[AnyBatch]) -> None:
        """Take one optimizer step on this process's parts of the next effective batch."""
        parts = self.order.parts(self.step)
        total = float(self._weight[self.order.rows(self.step)].sum(dtype=np.float64))
        # DDP averages gradients over processes; the loss is a mean over all of their labels.
        scale = self.world.size / total if total > 0 else 0.0
        lr = self._lr * learning_rate_factor(
            self.config, self.step, steps=self.steps, steps_per_epoch=self.per_epoch
        )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        seed_dropout(self.config.seed, self.step, self.world.rank, self.device)
        for number, (part, batch) in enumerate(zip(parts, loaded, strict=True)):
            with distributed.exchange(self._forward, now=number == len(parts) - 1):
                self._backward(self._taught(batch, part), scale, part.counts)
        if self.config.clip_norm > 0:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._params, self.config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)

    def _backward(self, batch: AnyBatch, scale: float, counts: bool) -> None:
        with self.autocast, fast_cpu():
            boxes = self._forward(batch)
        l1, giou = box_losses(boxes, batch.target)
        weight = self._weight_here[batch.row]
        if counts:
            self._losses.add(batch.row, l1, giou, weight)
        loss = ((l1 + giou) @ weight) * (scale if counts else 0.0)
        self._scaler.scale(loss).backward()

    def _taught(self, batch: AnyBatch, part: Part) -> AnyBatch:
        """Return the batch without its labels of weight 0, whose gradient is 0.

        With dropout they stay: without them the others would get different masks.
        """
        weight = self._weight[part.rows]
        if not self._leaves_out or not isinstance(batch, FeatureBatch) or weight.all():
            return batch
        rows = np.flatnonzero(weight)
        # One stays: an empty batch would give no gradient instead of 0, and AdamW would not step.
        return batch.select(torch.from_numpy(rows if len(rows) else np.zeros(1, np.int64)))

    def after_step(self) -> None:
        """Write a checkpoint when one is due; at an epoch's end, record and validate first."""
        every = self.config.checkpoint_steps
        ended = self.step % self.per_epoch == 0 or self.step == self.steps
        if not ended and not (every and self.step % every == 0):
            return
        if self.folder is not None and self.world.is_main and not self.folder.is_dir():
            raise InputError(f"{self.folder} {GONE}")
        if ended:
            self._end_epoch()
        self.checkpoint()
        if ended and self.folder is not None and self.world.is_main:
            write_lines(self.folder / METRICS, self.metrics)

    def _end_epoch(self) -> None:
        epoch = math.ceil(self.step / self.per_epoch)
        rows, sums = self._losses.gathered(self.world)
        l1, giou = (sums[:2] / sums[2].clamp(min=torch.finfo(torch.float32).tiny)).tolist()
        if not math.isfinite(l1 + giou):
            raise InputError(
                f"the loss of epoch {epoch} is {l1 + giou}: training diverged. Lower lr, set "
                f"clip_norm, or use amp='bf16' instead of 'fp16'."
            )
        if self.history is not None:
            self.history.record(epoch - 1, rows.numpy())
        line = {
            "epoch": epoch,
            "step": self.step,
            "lr": self._optimizer.param_groups[0]["lr"],
            "loss": l1 + giou,
            "loss_l1": l1,
            "loss_giou": giou,
        }
        due = epoch % self.config.evaluate_every == 0 or self.step == self.steps
        if self.validation is not None and due:
            line |= self._validate(epoch, self.validation)
        self.metrics.append(line)
        self._losses.reset()

    def _validate(self, epoch: int, validation: LabelTable) -> dict[str, float]:
        result = evaluate(
            self.model,
            validation,
            batch_size=2 * self.config.batch_size,
            features=self._features,
            num_workers=self.config.num_workers,
            progress=self._progress,
        )
        self.model.train()
        accuracy = result.accuracy[0.5]
        if self.best is None or accuracy > self.best.accuracy:
            self.best = Best(epoch, accuracy)
            self._best_state = trainable_state(self.model)
        return {"val_acc_0.5": accuracy, "val_mean_iou": result.mean_iou}

    def checkpoint(self) -> None:
        """Write the state, if there is a folder; of several processes all must call it."""
        if self.folder is None:
            return
        rows, sums = self._losses.gathered(self.world)
        if not self.world.is_main:
            return
        state = {
            "identity": self._identity,
            "step": self.step,
            "trainable": trainable_state(self.model),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "losses": {"rows": rows, "sums": sums},
            "metrics": self.metrics,
            "best": asdict(self.best) if self.best else None,
            "best_trainable": self._best_state,
            "history": {} if self.history is None else self.history.checks,
            "rungs": self.rungs,
            "seconds": self.seconds,
            "average": None if self._average is None else self._average.state(),
        }
        save_checkpoint(self.folder, state)

    def restore(self, saved: Json | None) -> None:
        """Continue from the state of a checkpoint, or start afresh, and open the records."""
        if saved is not None:
            self._load_state(saved)
        if self.folder is not None and self.world.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            # written before anything else, so that no line is duplicated or missing
            write_lines(self.folder / METRICS, self.metrics)
        if self.config.history:
            folder = self.folder if self.world.is_main else None
            shape = math.ceil(self.steps / self.per_epoch), self.order.num_labels
            self.history = History(folder, shape, saved["history"] if saved else {})

    def _load_state(self, saved: Json) -> None:
        load_trainable(self.model, saved["trainable"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._scaler.load_state_dict(saved["scaler"])
        self._losses.restore(saved["losses"]["rows"], saved["losses"]["sums"], self.world)
        self.step, self.metrics = saved["step"], saved["metrics"]
        self.best = Best(**saved["best"]) if saved["best"] else None
        self._best_state = saved["best_trainable"]
        self.rungs, self.seconds = saved["rungs"], saved["seconds"]
        if self._average is not None:
            self._average.restore(saved["average"])
