"""Aleatoric variance: a head that predicts how far labels lie from the model's boxes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.model.weights import check_finite
from clipvg.reliability.batch import Batch
from clipvg.reliability.measurer import Context, Scores
from clipvg.runtime.fields import ABOVE_ZERO
from clipvg.runtime.files import atomic_path
from clipvg.runtime.gate import check_file, reading

_FLOOR = 0.01  # in sides of the box: a residual of zero would make the likelihood unbounded
_STEPS = 100


class VarianceHead:
    """Scale of a label's deviation from the model's box, predicted from the [REG] state.

    log b = W (s − μ) / σ + c, one row per coordinate, with b the scale of a Laplace distribution of
    |box − prediction| in sides of the predicted box. Its negative log-likelihood is the model's L1
    loss with a learned, input-dependent variance (Kendall and Gal, NeurIPS 2017).

    Args:
        tensors: mean (D,), std (D,), weight (4, D) and bias (4,), float64.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}

    @classmethod
    def fit(cls, states: Tensor, residuals: Tensor, *, decay: float = 1e-2) -> VarianceHead:
        """Fit the head; the problem is convex, so the solution is unique.

        Minimises mean(|e| / b + log b) + decay / 2 ‖W‖² by L-BFGS.

        Args:
            states: (N, D) states of [REG], N >= 2.
            residuals: (N, 4) deviations of labels from predictions, in sides of the prediction.
            decay: strength of the penalty.
        """
        states, size = states.double(), residuals.double().abs() + _FLOOR
        mean, std = states.mean(0), states.std(0).clamp(min=1e-6)
        inputs = (states - mean) / std
        weight = torch.zeros(4, states.shape[1], dtype=torch.float64, requires_grad=True)
        bias = size.mean(0).log().requires_grad_()
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-6
        )

        def loss() -> Tensor:
            solver.zero_grad()
            logs = inputs @ weight.T + bias
            value = (size * torch.exp(-logs) + logs).mean() + decay / 2 * weight.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            solver.step(loss)
        return cls({"mean": mean, "std": std, "weight": weight.detach(), "bias": bias.detach()})

    def scale(self, states: Tensor) -> Tensor:
        """Return b of each coordinate in sides of the predicted box, (N, 4) float64."""
        t = self.tensors
        logs = ((states.double() - t["mean"]) / t["std"]) @ t["weight"].T + t["bias"]
        return logs.clamp(max=50).exp()

    def save(self, path: str | Path) -> None:
        """Write the head as a .safetensors file."""
        with atomic_path(path) as temporary:
            save_file(self.tensors, temporary)

    @classmethod
    def load(cls, path: str | Path) -> VarianceHead:
        """Read a head that `save` wrote."""
        with reading(path, "a variance head as saved by `save`"):
            tensors = load_file(check_file(path))
        if set(tensors) != {"mean", "std", "weight", "bias"}:
            raise InputError(f"{path}: holds {sorted(tensors)}, not a variance head; fit one.")
        check_finite(tensors, path)
        return cls(tensors)


class AleatoricVariance(ModelMeasure):
    """How little a label of this kind is expected to deviate from the model's box.

    r = exp(−mean_c b_c), b the scales of a `VarianceHead` in sides of the predicted box. It does
    not see the label's own box: it finds images and expressions whose labels are noisy.

    Without a given head, heads are cross-fitted on the labels at hand: the images are split into
    folds, and each fold is scored by a head fitted on the others.

    Args:
        head: a fitted head or its file; None fits one per fold.
        folds: number of folds of the cross-fitting, at least 2.
        decay: strength of the penalty of the fit, see `VarianceHead.fit`.
    """

    head: VarianceHead | str | Path | None = None
    folds: Annotated[int, (2, None)] = 5
    decay: Annotated[float, (ABOVE_ZERO, None)] = 1e-2
    name: str = "aleatoric"
    reads = "fitted_head"

    @cached_property
    def fitted_head(self) -> VarianceHead | None:
        """The given head, loaded if it is a file."""
        return VarianceHead.load(self.head) if isinstance(self.head, str | Path) else self.head

    def observe(self, batch: Batch) -> Tensor:
        """Return residuals and states, (B, 4 + D)."""
        predicted = batch.boxes(self.model)
        sides = predicted[:, 2:].clamp(min=1e-6).repeat(1, 2)
        residuals = (batch.target(self.model) - predicted) / sides
        return torch.cat([residuals, batch.state(self.model)], dim=1)

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return exp(−mean scale)."""
        values = torch.from_numpy(observed)
        residuals, states = values[:, :4], values[:, 4:]
        known = torch.isfinite(values).all(1)
        scale = torch.full((len(values), 4), torch.nan, dtype=torch.float64)
        reasons: dict[int, str] = {}
        if self.fitted_head is not None:
            width = self.fitted_head.tensors["mean"].shape[0]
            if known.any() and states.shape[1] != width:
                raise InputError(
                    f"the variance head reads states of width {width}, and this model's have "
                    f"{states.shape[1]}; fit a head for this model."
                )
            scale[known] = self.fitted_head.scale(states[known])
        else:
            image_of = torch.from_numpy(labels.distinct_images()[1])
            for fold in range(self.folds):
                here = known & (image_of % self.folds == fold)
                rest = known & ~here
                if int(rest.sum()) < 2:
                    why = f"{self.name}: {int(rest.sum())} other label(s) are too few to fit on"
                    reasons |= dict.fromkeys(here.nonzero()[:, 0].tolist(), why)
                elif here.any():
                    head = VarianceHead.fit(states[rest], residuals[rest], decay=self.decay)
                    scale[here] = head.scale(states[here])
        return Scores(torch.exp(-scale.mean(1)).numpy().astype(np.float32), reasons)
