"""The training loop and its state."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from clipvg.atomic import atomic_path
from clipvg.errors import InputError
from clipvg.training import distributed
from clipvg.training.calibrate import calibrate
from clipvg.training.checkpoint import (
    load_trainable,
    rng_state,
    save_checkpoint,
    seed_dropout,
    set_rng_state,
    trainable_state,
)
from clipvg.training.config import FitConfig
from clipvg.training.evaluate import evaluate
from clipvg.training.features import FeatureBatch, FeatureCache
from clipvg.training.feed import AnyBatch, Feed
from clipvg.training.interrupt import Interrupt
from clipvg.training.losses import box_losses
from clipvg.training.order import Order
from clipvg.training.progress import progress_bar
from clipvg.training.record import (
    EpochLosses,
    append_metrics,
    open_history,
    write_metrics,
    write_model,
)

if TYPE_CHECKING:
    from clipvg.labels import LabelTable
    from clipvg.model.grounder import GroundingModel

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BEST = "best.safetensors"


@dataclass(frozen=True)
class Best:
    """Epoch (from 1) with the highest validation Acc@0.5, and that accuracy in [0, 1]."""

    epoch: int
    accuracy: float


class Trainer:
    """State of one training; `fit` makes it, runs it and takes the result.

    Attributes:
        step: optimizer steps done.
        history: see `Fit`.
        metrics: see `Fit`.
        best: see `Fit`.
        seconds: see `Fit`.
    """

    def __init__(
        self,
        model: "GroundingModel",
        order: Order,
        config: FitConfig,
        weight: np.ndarray,
        *,
        identity: dict[str, Any],
        validation: "LabelTable | None",
        folder: Path | None,
    ) -> None:
        self.model, self.order, self.config, self._identity = model, order, config, identity
        self.world, self.device, self.folder = order.world, model.device, folder
        self.validation = validation
        self._features: FeatureCache | None = None
        self._progress = False
        self.per_epoch = order.steps_per_epoch
        self.steps = config.steps or config.epochs * self.per_epoch
        self._weight = weight
        self._weight_here = torch.from_numpy(weight).to(self.device)
        self._params = [p for p in model.parameters() if p.requires_grad]
        distributed.broadcast((p.data for p in self._params), self.world)
        self._forward = distributed.data_parallel(_Boxes(model), self.world)
        self._lr = config.scaled_lr(self.world.size)
        self._optimizer = torch.optim.AdamW(
            self._params,
            lr=self._lr,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self._losses = EpochLosses(len(weight), self.device)
        self.history: np.ndarray | None = None
        self.metrics: list[dict[str, Any]] = []
        self.best: Best | None = None
        self._best_state: dict[str, Tensor] | None = None
        self.step = 0
        self.seconds = 0.0

    def run(self, feed: Feed, *, features: FeatureCache | None, progress: bool) -> None:
        """Train to the last step; `features` also serve the validation."""
        self._features = features
        began, before = time.perf_counter(), self.seconds
        self._progress = progress and self.world.is_main
        bar = progress_bar(
            self.steps, initial=self.step, unit="step", desc="train", show=self._progress
        )
        if self.config.calibrate and self.step == 0:
            self._calibrate(feed)
        batches = feed.stream(self.step, self.steps)
        self.model.train()
        with bar, Interrupt(self.world) as interrupt:
            while self.step < self.steps:
                self._update(self._load(batches))
                self.seconds = before + time.perf_counter() - began
                self._after_step(bar)
                if interrupt.requested(self.step):
                    self._checkpoint()
                    interrupt.obey()

    def _calibrate(self, feed: Feed) -> None:
        calibrate(self.model, next(iter(feed.stream(0, 1))).to(self.device))
        distributed.broadcast((p.data for p in self._params), self.world)

    def finish(self) -> Best | None:
        """Put the best weights into the model and write it to the folder."""
        if self.best is not None:
            state = self._best_state
            if state is None and self.folder is not None:
                state = load_file(self.folder / _BEST)
            assert state is not None
            load_trainable(self.model, state)
        self.model.eval()
        if self.folder is not None and self.world.is_main:
            write_model(self.model, self.folder)
        distributed.barrier(self.world)
        return self.best

    def _load(self, batches: Iterator[AnyBatch]) -> list[AnyBatch]:
        """This process's parts of the next effective batch, on the device."""
        try:
            loaded = [next(batches) for _ in self.order.parts(self.step)]
        except KeyboardInterrupt:  # raised by a feed: no step is under way
            if self.world.size == 1:
                self._checkpoint()
            raise
        return [batch.to(self.device, non_blocking=True) for batch in loaded]

    def _update(self, loaded: list[AnyBatch]) -> None:
        """One optimizer step."""
        parts = self.order.parts(self.step)
        total = float(self._weight[self.order.rows(self.step)].sum(dtype=np.float64))
        # DDP averages gradients over processes; the loss is a mean over all of their labels.
        scale = self.world.size / total if total > 0 else 0.0
        lr = self._lr * self.config.factor(self.step, self.steps, self.per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        seed_dropout(self.config.seed, self.step, self.world.rank, self.device)
        for number, (part, batch) in enumerate(zip(parts, loaded, strict=True)):
            with distributed.exchange(self._forward, now=number == len(parts) - 1):
                self._backward(batch, scale, part.counts)
        if self.config.clip_norm > 0:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._params, self.config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _backward(self, batch: AnyBatch, scale: float, counts: bool) -> None:
        dtype = _AUTOCAST.get(self.config.amp)
        with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
            boxes = self._forward(batch)
        l1, giou = box_losses(boxes, batch.target)
        weight = self._weight_here[batch.row]
        if counts:
            self._losses.add(batch.row, l1, giou, weight)
        loss = ((l1 + giou) @ weight) * (scale if counts else 0.0)
        self._scaler.scale(loss).backward()

    def _after_step(self, bar: tqdm) -> None:
        bar.update()
        ended = self.step % self.per_epoch == 0 or self.step == self.steps
        if ended:
            self._end_epoch(bar)
        every = self.config.checkpoint_steps
        if ended or (every and self.step % every == 0):
            self._checkpoint()
        if ended and self.folder is not None and self.world.is_main:
            append_metrics(self.folder, self.metrics[-1])

    def _end_epoch(self, bar: tqdm) -> None:
        epoch = math.ceil(self.step / self.per_epoch)
        rows, sums = self._losses.gathered(self.world)
        l1, giou = (sums[:2] / sums[2].clamp(min=torch.finfo(torch.float32).tiny)).tolist()
        if not math.isfinite(l1 + giou):
            raise InputError(
                f"the loss of epoch {epoch} is {l1 + giou}: training diverged. Lower lr, set "
                f"clip_norm, or use amp='bf16' instead of 'fp16'."
            )
        if self.history is not None:
            self.history[epoch - 1] = rows.numpy()
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
        shown = {k: v for k, v in line.items() if k in ("epoch", "loss", "val_acc_0.5")}
        postfix = {k: f"{v:.3f}" if k != "epoch" else v for k, v in shown.items()}
        bar.set_postfix(postfix, refresh=False)  # a refresh would show the bar before its time

    def _validate(self, epoch: int, validation: "LabelTable") -> dict[str, float]:
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
            if self.folder is not None and self.world.is_main:
                with atomic_path(self.folder / _BEST) as temporary:
                    save_file(self._best_state, temporary)
        return {"val_acc_0.5": accuracy, "val_mean_iou": result.mean_iou}

    def _checkpoint(self) -> None:
        """Write the state, if there is a folder; on several processes all take part."""
        if self.folder is None:
            return
        rows, sums = self._losses.gathered(self.world)
        if not self.world.is_main:
            return
        if isinstance(self.history, np.memmap):
            self.history.flush()
        position = {"seed": self.config.seed, "step_in_epoch": self.step % self.per_epoch}
        state = {
            "identity": self._identity,
            "step": self.step,
            "epoch": self.step // self.per_epoch,
            "order": position,
            "trainable": trainable_state(self.model),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": rng_state(),
            "losses": {"rows": rows, "sums": sums},
            "metrics": self.metrics,
            "best": asdict(self.best) if self.best else None,
            "seconds": self.seconds,
        }
        save_checkpoint(self.folder, state)

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Continue from the state of a checkpoint, or start, and open the records."""
        if saved is not None:
            self._load_state(saved)
        if self.folder is not None and self.world.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_metrics(self.folder, self.metrics)
        if self.config.history:
            folder = self.folder if self.world.is_main else None
            epochs = math.ceil(self.steps / self.per_epoch)
            resume = saved is not None
            self.history = open_history(folder, epochs, self.order.num_labels, resume)

    def _load_state(self, saved: dict[str, Any]) -> None:
        load_trainable(self.model, saved["trainable"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._scaler.load_state_dict(saved["scaler"])
        set_rng_state(saved["rng"])
        self._losses.restore(saved["losses"]["rows"], saved["losses"]["sums"], self.world)
        self.step, self.metrics = saved["step"], saved["metrics"]
        self.best = Best(**saved["best"]) if saved["best"] else None
        self.seconds = saved["seconds"]


class _Boxes(nn.Module):
    """One `forward` for both kinds of batches, for DDP to wrap."""

    def __init__(self, model: "GroundingModel") -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: AnyBatch) -> Tensor:
        if isinstance(batch, FeatureBatch):
            return batch.predict(self.model)
        return self.model(batch)
