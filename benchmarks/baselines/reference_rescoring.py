"""Rescoring with the access pattern of the reference code: the baseline of the benchmark.

One pass per measurer and source. Every label decodes and encodes its own image, has 77 text tokens
and 1 + 77 + 1 + P fusion tokens (275 for ViT-B/16), goes through post-norm layers whose
`nn.MultiheadAttention` returns its weights, in float32, 128 labels per batch. Nothing is shared
between labels or measurers.

python benchmarks/baselines/reference_rescoring.py LABELS --layout unc --images DIR CHECKPOINT …
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import box_convert

from clipvg.data.letterbox import Letterbox, load_square
from clipvg.labels import LabelTable, ReadOptions, read_labels
from clipvg.model import GroundingModel, load
from clipvg.rescoring import Stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from _rescoring.flops import Sizes, reference_flops
from _rescoring.peak import matmul_gflops

BATCH = 128
Square = tuple[Tensor, Tensor, Letterbox]
Loader = Callable[[Path], Square]


class ReferenceLayer(nn.Module):
    """A post-norm layer with the reference's calls, on (S, B, D), and a clipvg layer's weights."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        width = layer.linear1.in_features
        self.self_attn = nn.MultiheadAttention(width, layer.heads, dropout=layer.dropout)
        self.self_attn.load_state_dict(layer.self_attn.state_dict())
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.dropout = nn.Dropout(layer.dropout)

    def forward(self, source: Tensor, position: Tensor, ignored: Tensor) -> Tensor:
        q = k = source + position
        mixed, _weights = self.self_attn(q, k, value=source, key_padding_mask=ignored)
        source = self.norm1(source + self.dropout(mixed))
        inner = self.linear2(self.dropout(F.relu(self.linear1(source))))
        return self.norm2(source + self.dropout(inner))


class ReferenceModel(nn.Module):
    """The reference's forward pass with the weights of a `GroundingModel`."""

    def __init__(self, model: GroundingModel) -> None:
        super().__init__()
        self.model = model
        self.layers = nn.ModuleList(ReferenceLayer(layer) for layer in model.fusion.layers)
        self.to(model.device).eval()

    def forward(
        self, images: Tensor, pixel_mask: Tensor, tokens: Tensor, text_mask: Tensor, stats: Stats
    ) -> Tensor:
        """Return boxes (B, 4) cxcywh from one image and 77 tokens per label."""
        model = self.model
        with stats.timed("image"):
            visual = model.backbone.image_features(images)  # (B, 1 + P, levels · W)
        with stats.timed("text"):
            text = model.backbone.text_features(tokens, model.prefix)  # (B, 77, E)
        with stats.timed("fuse"):
            batch = len(images)
            x = torch.cat(
                [
                    model.reg_token.weight.expand(batch, 1, -1),
                    model.text_projection(text),
                    model.visual_projection(visual),
                ],
                dim=1,
            )
            always = torch.zeros(batch, 1, dtype=torch.bool, device=x.device)
            ignored = torch.cat([always, ~text_mask, always, model.patch_mask(pixel_mask)], dim=1)
            position = model.position.weight[:, None].expand(-1, batch, -1)
            x = x.transpose(0, 1)  # (S, B, D)
            for layer in self.layers:
                x = layer(x, position, ignored)
            return model.head(x[0])


class Pairs(Dataset):
    """Labels one by one, each of which decodes its own image."""

    def __init__(self, labels: LabelTable, model: GroundingModel, read: Loader) -> None:
        self._names, self._texts = labels.image_names, labels.expressions
        self._boxes = labels.boxes(integer=model.preset.integer_boxes)
        self._path, self._model, self._read = labels.image_path, model, read

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        pixels, mask, letterbox = self._read(self._path(self._names[row]))
        tokens, text_mask = self._model.tokenize([self._texts[row]])
        target = torch.from_numpy(letterbox.to_square(self._boxes[row]))
        return pixels, mask, tokens[0], text_mask[0], target


@dataclass(frozen=True)
class Rescored:
    """Result of a run.

    Attributes:
        scores: (n, N) float32 reliability in label order.
        seconds: duration of the whole run.
        stages: seconds by stage; "decode" is the time spent waiting for a batch.
    """

    scores: np.ndarray
    seconds: float
    stages: dict[str, float]


def square_loader(model: GroundingModel) -> Loader:
    """Return a function that decodes a file into the model's square."""
    return lambda path: load_square(path, model.backbone.image_size, model.preset)


def reliability(predicted: Tensor, target: Tensor) -> Tensor:
    """IoU (B,) of boxes (B, 4) cxcywh; predictions are clamped to the square, targets are not."""
    a, b = box_convert(predicted, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy")
    a = a.clamp(0, 1)
    inside = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    shared = inside.prod(1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared + 1e-16)


@torch.no_grad()
def rescore(
    models: Mapping[str, GroundingModel],
    labels: LabelTable,
    *,
    batch: int = BATCH,
    workers: int = 0,
    read: Loader | None = None,
    profile: bool = True,
) -> Rescored:
    """Score all labels with all models, one pass per model and source.

    Args:
        models: measurers by name, on one device.
        labels: N labels.
        batch: labels per batch; the last of a pass may be smaller.
        workers: decoding processes; 0 decodes in this one.
        read: returns the square of a file; None decodes it.
        profile: wait for the device after every stage.
    """
    device = next(iter(models.values())).device
    stats = Stats(waits_for=device if profile else None)
    sources = np.array([str(source) for source in labels.sources()])
    scores = np.full((len(models), len(labels)), np.nan, dtype=np.float32)
    start = time.perf_counter()
    for i, model in enumerate(models.values()):
        reference = ReferenceModel(model)
        for source in dict.fromkeys(sources.tolist()):
            rows = np.flatnonzero(sources == source)
            part = Pairs(labels.select(rows), model, read or square_loader(model))
            found = []
            for items in _batches(part, batch, workers, stats):
                images, pixel_mask, tokens, text_mask, target = (x.to(device) for x in items)
                boxes = reference(images, pixel_mask, tokens, text_mask, stats)
                with stats.timed("score"):
                    found.append(reliability(boxes, target).cpu().numpy())
            scores[i, rows] = np.concatenate(found)
    return Rescored(scores, time.perf_counter() - start, stats.seconds)


def _batches(pairs: Pairs, batch: int, workers: int, stats: Stats) -> Iterator[list[Tensor]]:
    batches = iter(DataLoader(pairs, batch_size=batch, num_workers=workers))
    while True:
        with stats.timed("decode"):
            items = next(batches, None)
        if items is None:
            return
        yield items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels")
    parser.add_argument("measurers", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--images", required=True)
    parser.add_argument("--layout", help="layout of a published .pth file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    # TF32 is not float32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    models = {path: load(path).to(args.device) for path in args.measurers}
    options = ReadOptions(layout=args.layout)
    labels = read_labels(args.labels, images=args.images, options=options)
    peak = matmul_gflops(torch.float32, args.device)
    done = rescore(models, labels, batch=args.batch, workers=args.workers)
    flops = sum(sum(reference_flops(Sizes.of(m)).values()) for m in models.values()) * len(labels)
    for name, row in zip(models, done.scores, strict=True):
        print(f"{name}: mean reliability {np.nanmean(row):.4f}")
    rate = len(labels) / done.seconds
    print(f"{rate:.2f} labels/s, {flops / done.seconds / 1e9:.1f} GFLOP/s, ", end="")
    print(f"matmul peak {peak:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
