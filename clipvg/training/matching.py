"""Train a matcher to tell labels from mismatches that are made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.labels.pairs import pairs_within, words
from clipvg.model.quality import Matcher
from clipvg.ops.boxes import overlap

_BATCH = 192
_RATE = 2e-3
_LEAST_STEPS, _MOST_STEPS = 30, 3_000
_JUDGED_AT_ONCE = 2_048
_MOST_NEAR = 64
APART = 0.5  # IoU below which two boxes show different objects
DISPLACED = 2  # displaced boxes per label


@dataclass(frozen=True, eq=False)
class MatcherInputs:
    """Inputs of a matcher: N labels, M boxes with S views each (the box itself first), U texts."""

    # (M, S, 4) float32 cxcywh in sides of the square; views after the first are displaced
    boxes: Tensor
    regions: Tensor  # (M, S, B, C) float32 features of B bins of each box
    box_of: Tensor  # (N,) int64 box of each label
    texts: Tensor  # (U, T, E) float32 features of tokens, zeros after the last one
    masks: Tensor  # (U, T) bool, True for a token
    text_of: Tensor  # (N,) int64 text of each label
    words: Sequence[str]  # the U expressions


class RaggedLists:
    """`count` lists of any lengths, to draw from: `member` (P,) is in the list `owner` (P,)."""

    def __init__(self, owner: np.ndarray, member: np.ndarray, count: int) -> None:
        order = np.argsort(owner, kind="stable")
        sizes = np.bincount(owner, minlength=count)
        self._members = torch.from_numpy(member[order])
        self._sizes = torch.from_numpy(sizes)
        self._starts = torch.from_numpy(np.cumsum(sizes) - sizes)

    def draw(self, lists: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one member of each list: return positions in `lists` that have any, and members."""
        there = (self._sizes[lists] > 0).nonzero()[:, 0]
        asked = lists[there]
        part = torch.rand(len(asked), generator=generator) * self._sizes[asked]
        return there, self._members[self._starts[asked] + part.long()]


def one_word_away(texts: Sequence[str], used: np.ndarray) -> RaggedLists:
    """Return for each used text those that differ from it in one word, at most 64 per position."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number in used.tolist():
        parts = words(texts[number])
        for place in range(len(parts)):
            alike[(*parts[:place], "", *parts[place + 1 :])].append(number)
    owner, member = [], []
    for group in alike.values():
        ring, most = group * 2, min(len(group) - 1, _MOST_NEAR)
        for place, number in enumerate(group):
            near = [n for n in ring[place + 1 : place + 1 + most] if n != number]
            owner += [number] * len(near)
            member += near
    lists = np.array(owner, dtype=np.int64), np.array(member, dtype=np.int64)
    return RaggedLists(*lists, len(texts))


@dataclass(frozen=True, kw_only=True, eq=False)
class MatcherTrainer:
    """Trains matchers on labels and asks them about pairs."""

    pairs: MatcherInputs  # of the labels
    others: RaggedLists  # for each label the labels of its image that show another object
    width: int  # hidden width of the matchers
    epochs: int  # passes over the labels trained on
    device: torch.device  # where matchers run

    def train(self, rows: Tensor, weights: Tensor, seed: int) -> Matcher:
        """Train a matcher to tell labels from mismatches, drawn in proportion to `weights` (N,)."""
        draw = torch.Generator().manual_seed(seed)
        _, _, bins, region = self.pairs.regions.shape
        used = np.unique(self.pairs.text_of[rows].numpy())
        near = one_word_away(self.pairs.words, used)
        steps = min(max(self.epochs * len(rows) // _BATCH, _LEAST_STEPS), _MOST_STEPS)
        ends = weights[rows].double().cumsum(0)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cuda), torch.enable_grad():
            torch.manual_seed(seed)
            net = Matcher(region, self.pairs.texts.shape[2], bins, self.width).to(self.device)
            solver = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.OneCycleLR(solver, _RATE, total_steps=steps)
            for _ in range(steps):
                logits, truth = self._step(net, rows, ends, near, draw)
                solver.zero_grad()
                even = (len(truth) - _BATCH) / truth.sum()  # labels count as much as mismatches
                F.binary_cross_entropy_with_logits(logits, truth, pos_weight=even).backward()
                solver.step()
                schedule.step()
        return net.eval()

    def _step(
        self, net: Matcher, rows: Tensor, ends: Tensor, near: RaggedLists, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return logits of a batch of labels and their mismatches, and 1 for labels, else 0."""

        def some(count: int) -> Tensor:
            at = torch.rand(count, generator=draw, dtype=torch.float64) * ends[-1]
            return rows[torch.searchsorted(ends, at).clamp(max=len(rows) - 1)]

        text_of, half = self.pairs.text_of, _BATCH // 2
        right = some(_BATCH)
        beside, shown = self.others.draw(right, draw)
        changed, said = near.draw(text_of[right[half:]], draw)
        anyone = text_of[some(half)]
        displaced = torch.randint(1, self.pairs.boxes.shape[1], (half,), generator=draw)
        label = torch.cat([right, shown, right[:half], right[half:][changed], right[:half]])
        text = torch.cat(
            [text_of[right], text_of[right[beside]], anyone, said, text_of[right[:half]]]
        )
        view = torch.zeros_like(label)
        view[-half:] = displaced
        truth = torch.zeros(len(label), device=self.device)
        truth[:_BATCH] = 1
        return self._logits(net, label, view, text), truth

    def ask(self, net: Matcher, label: Tensor, text: Tensor) -> Tensor:
        """Return the logits of labels' boxes with texts, (P,) on the CPU."""
        if not len(label):
            return torch.zeros(0)
        parts = zip(label.split(_JUDGED_AT_ONCE), text.split(_JUDGED_AT_ONCE), strict=True)
        with torch.no_grad():
            found = [self._logits(net, a, torch.zeros_like(a), b).cpu() for a, b in parts]
        return torch.cat(found)

    def _logits(self, net: Matcher, label: Tensor, view: Tensor, text: Tensor) -> Tensor:
        pairs, mask = self.pairs, self.pairs.masks[text]
        longest = int(mask.sum(1).max())
        values = (
            pairs.boxes[pairs.box_of[label], view],
            pairs.regions[pairs.box_of[label], view],
            pairs.texts[text, :longest],
            mask[:, :longest],
        )
        return net(*(value.to(self.device) for value in values))


def displaced(boxes: Tensor, rows: np.ndarray, seed: int) -> Tensor:
    """Add two displaced boxes to each of (B, 4) cxcywh, (B, 3, 4); seed and row determine them."""
    tries = 8
    drawn = [np.random.default_rng((seed, int(row))) for row in rows]
    spread = np.stack([draw.uniform(0.15, 0.65, (DISPLACED, tries, 1)) for draw in drawn])
    noise = np.stack([draw.normal(size=(DISPLACED, tries, 4)) for draw in drawn]) * spread
    moved = torch.from_numpy(noise.astype(np.float32))  # (B, views, tries, 4)
    own = boxes[:, None, None]
    centre = own[..., :2] + moved[..., :2] * own[..., 2:]
    sides = own[..., 2:] * moved[..., 2:].exp()
    low, high = (centre - sides / 2).clamp(0, 1), (centre + sides / 2).clamp(0, 1)
    made = torch.cat([(low + high) / 2, (high - low).clamp(min=0.02)], dim=-1)
    apart = overlap(made, own.expand_as(made)) < APART
    apart[..., -1] = True  # if none is apart, take the last
    first = apart.int().argmax(2)
    chosen = made.gather(2, first[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    return torch.cat([boxes[:, None], chosen], dim=1)


def rivals_of(image: np.ndarray, boxes: Tensor) -> Tensor:
    """Return pairs (2, P) of labels of one image whose boxes (N, 4) show different objects."""
    parts = [torch.zeros((2, 0), dtype=torch.int64)]
    for i, j in pairs_within(image):
        pairs = torch.from_numpy(np.stack([i, j]))
        parts.append(pairs[:, overlap(boxes[pairs[0]], boxes[pairs[1]]) < APART])
    return torch.cat(parts, dim=1)
