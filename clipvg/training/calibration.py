"""Calibrate a quality head on held-out answers: train its reader of [REG], and weigh all signs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvg.labels.pairs import words
from clipvg.model.quality import MEANT, PRESENT, QUALITY, QualityHead

_FOLDS = 4
_BATCH, _RATE, _EPOCHS = 128, 2e-3, 30
_ROUNDS = 30  # of expectation maximisation, see `_weigh_present`


@dataclass
class Held:
    """A model's answers on held-out images to own and foreign expressions, R in all.

    A foreign expression is one of another image that does not fit this one by its words.
    """

    state: list[Tensor] = field(default_factory=list)  # (R, D) float32 [REG]
    match: list[Tensor] = field(default_factory=list)  # (R,) logit of the matcher at its own box
    shown: list[Tensor] = field(default_factory=list)  # (R,) logit that the image shows it
    right: list[Tensor] = field(default_factory=list)  # (R,) bool, box is right; only for own ones
    # (R,) bool, False for a foreign expression
    own: list[Tensor] = field(default_factory=list)
    image: list[Tensor] = field(default_factory=list)  # (R,) int64 number of the image
    missed: float = 0.0  # estimated share of the foreign expressions that fit after all
    # matcher's logits at boxes, and whether these are the labels' own (True) or displaced (False)
    meant: list[tuple[Tensor, bool]] = field(default_factory=list)


def calibrate(head: QualityHead, held: Held, seed: int) -> None:
    """Train the reader of [REG], and weigh the signs as they are on images that are new to it."""
    head.cpu()
    state, match = torch.cat(held.state), torch.cat(held.match)
    own, right = torch.cat(held.own), torch.cat(held.right)
    standardise(head, 2, state)
    inputs = head.standard(state, 2)
    # Absent counts as much as present.
    even = torch.where(own, 1.0, own.sum() / (~own).sum().clamp(min=1))
    target = torch.stack([right & own, own], dim=1).float()
    counts = torch.stack([own.float(), even], dim=1)
    fold = torch.cat(held.image) % _FOLDS
    read = torch.zeros(len(own), 2)
    for number in range(_FOLDS):
        rest = fold != number
        net = _read(head.reader, inputs[rest], target[rest], counts[rest], seed + number)
        with torch.no_grad():
            read[~rest] = net(inputs[~rest])
    net = _read(head.reader, inputs, target, counts, seed)
    head.reader.load_state_dict(net.state_dict())
    signs = torch.cat([match[:, None], read, torch.cat(held.shown)[:, None]], dim=1)
    found = _weigh(signs, target[:, 0], counts[:, 0])
    head.weights[QUALITY], head.biases[QUALITY] = found
    head.weights[PRESENT], head.biases[PRESENT] = _weigh_present(signs, own, held.missed)
    at = torch.cat([logits for logits, _ in held.meant])[:, None]
    is_own = torch.cat([torch.full((len(logits),), float(is_own)) for logits, is_own in held.meant])
    weight, bias = _weigh(at, is_own, torch.ones(len(at)))
    head.weights[MEANT], head.biases[MEANT] = F.pad(weight, (0, 3)), bias


def _read(
    like: nn.Sequential, inputs: Tensor, target: Tensor, counts: Tensor, seed: int
) -> nn.Sequential:
    """Train a fresh perceptron of the same architecture as `like`."""
    torch.manual_seed(seed)
    net = copy.deepcopy(like).requires_grad_().train()
    for part in net:
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    steps = max(_EPOCHS * len(inputs) // _BATCH, 200)
    solver = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(solver, _RATE, total_steps=steps)
    with torch.enable_grad():
        for _ in range(steps):
            some = torch.randint(len(inputs), (_BATCH,))
            loss = F.binary_cross_entropy_with_logits(
                net(inputs[some]), target[some], counts[some], reduction="sum"
            )
            solver.zero_grad()
            (loss / counts[some].sum()).backward()
            solver.step()
            schedule.step()
    return net.eval()


def _weigh(signs: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression by Newton's method: weights (k,) and bias () of signs (N, k)."""
    scale = signs.double().std(0).clamp(min=1e-6)
    x = F.pad(signs.double() / scale, (0, 1), value=1.0)
    weights = torch.zeros(x.shape[1], dtype=torch.float64)
    ridge = torch.eye(len(weights), dtype=torch.float64)
    ridge[-1, -1] = 0
    for _ in range(30):
        chance = (x @ weights).sigmoid()
        slope = x.T @ (counts * (chance - target)) + ridge @ weights
        curve = (x * (counts * chance * (1 - chance))[:, None]).T @ x + ridge
        weights = weights - torch.linalg.solve(curve + 1e-9 * torch.eye(len(weights)), slope)
    return (weights[:-1] / scale).float(), weights[-1].float()


def _weigh_present(signs: Tensor, own: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Weigh signs (N, k) of whether anything fits, from own expressions and foreign ones.

    A share of the foreign ones fits after all, and it is unknown which: counted as absent, they
    would keep P below 1 / (1 + share). So each counts as absent with the probability, by P of the
    last round, that it does not fit (expectation maximisation; Ward et al., Biometrics 2009).
    """
    fits = torch.full((int((~own).sum()),), share)  # P(a foreign expression fits)
    for _ in range(_ROUNDS):
        absent = own.sum() * (1 - fits) / (1 - fits).sum()  # as likely as present
        counts = torch.ones(len(own)).masked_scatter(~own, absent)
        weights, bias = _weigh(signs, own.float(), counts)
        chance = (signs[~own] @ weights + bias).sigmoid()
        fits = share * chance / (share * chance + (1 - share) * (1 - chance))
    return weights, bias


def standardise(head: QualityHead, what: int, values: Tensor) -> None:
    """Let a head standardise regions (0), words (1) or [REG] (2) by the statistics of `values`."""
    head.centre[what] = values.mean(0)
    head.deviation[what] = values.std(0).clamp(min=1e-3)


class Foreign:
    """The expressions of each image, to judge whether those of other images fit it too.

    Args:
        expressions: expressions of N labels.
        image_of: (N,) number of each label's image.
    """

    def __init__(self, expressions: Sequence[str], image_of: np.ndarray) -> None:
        self._words = [frozenset(words(text)) for text in expressions]
        self._image_of = image_of
        self._rows: dict[int, list[int]] = {}
        for row, image in enumerate(image_of.tolist()):
            self._rows.setdefault(image, []).append(row)

    def fits(self, rows: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return whether another label of each image has all words of the row's, (B,) bool."""
        return np.array(
            [
                any(self._words[row] <= self._words[o] for o in self._rows[image] if o != row)
                for row, image in zip(rows.tolist(), images.tolist(), strict=True)
            ],
            bool,
        )

    def missed(self, rows: np.ndarray, found: np.ndarray) -> float:
        """Estimate the share of foreign expressions that fit, of those not `found` to fit.

        Each label's expression fits its own image, and there `fits` finds a share d of those with a
        given number of words. It is taken to find the same share on other images: if it found u,
        u / d fit.
        """
        lengths = np.array([len(said) for said in self._words])
        known = self.fits(np.arange(len(lengths)), self._image_of)
        missed = 0.0
        for length in np.unique(lengths[rows[found]]):
            share = float(known[lengths == length].mean())
            count = int(found[lengths[rows] == length].sum())
            missed += count * (1 / share - 1) if share else 0
        return min(missed / max(int((~found).sum()), 1), 0.5)
