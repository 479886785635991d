"""Predict boxes and their confidences from an ONNX export, without PyTorch or clipvg.

    clipvg export runs/refcoco/model --format onnx --out exported
    pip install onnxruntime tokenizers numpy pillow
    python predict_with_onnxruntime.py exported street.jpg "man in red" "dog on the left"

Prints one line per expression: x1 y1 x2 y2 in pixels; if the model has a quality head, P(the box
is right) and P(the object is there); then the expression.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tokenizers import Tokenizer

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime


class Grounder:
    """A model that `clipvg export --format onnx` wrote.

    Args:
        folder: folder of the export.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.facts = json.loads((folder / "preprocessing.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        # A higher level crashes on fp16 (onnxruntime 1.32, on a CPU).
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        self.parts = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options)
            for name in ("image", "text", "fusion")
        }

    def predict(self, image: Image.Image, expressions: list[str]) -> list[np.ndarray]:
        """Return boxes (N, 4), xyxy in pixels of the image, which is encoded once.

        If the export has them, also return scores (N,) = P(the box is right) and present (N,) =
        P(the object that the expression describes is there).
        """
        image = upright(image) if self.facts["exif"] else image.convert("RGB")
        square, mask, scale, offset = self.square(image)
        features, ignored = self.parts["image"].run(None, {"pixels": square, "pixel_mask": mask})
        ids, attention_mask = self.tokens(expressions)
        text, text_mask = self.parts["text"].run(
            None, {"ids": ids, "attention_mask": attention_mask}
        )
        boxes, *chances = self.parts["fusion"].run(
            None,
            {
                "image": features,
                "patch_ignored": ignored,
                "text": text,
                "text_mask": text_mask,
                "image_index": np.zeros(len(ids), np.int64),  # all about the first image
            },
        )
        centre, half = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64) / 2
        corners = np.concatenate([centre - half, centre + half], 1) * self.facts["image_size"]
        pixels = np.clip((corners - offset * 2) / scale, 0, image.size * 2)
        return [pixels.astype(np.float32), *chances]

    def square(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray, float, tuple[int, int]]:
        """Return the letterboxed square, its padding mask, and the image's scale and offset."""
        size = self.facts["image_size"]
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        x, y = round((size - width) / 2 - 0.1), round((size - height) / 2 - 0.1)
        small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        mean, std = (np.array(self.facts[name], np.float32) for name in ("mean", "std"))
        pixels, mask = np.zeros((1, 3, size, size), np.float32), np.ones((1, size, size), bool)
        pixels[0, :, y : y + height, x : x + width] = ((small / 255 - mean) / std).transpose(
            2, 0, 1
        )
        mask[0, y : y + height, x : x + width] = False
        return pixels, mask, scale, (x, y)

    def tokens(self, expressions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids and the mask of real tokens, both (N, T)."""
        prompt, limit = self.facts["prompt"] or "{}", self.facts["context_length"]
        rows = self.tokenizer.encode_batch([prompt.replace("{}", text) for text in expressions])
        ids = np.array([row.ids for row in rows], np.int64)
        mask = np.array([row.attention_mask for row in rows], bool)
        if self.facts["overlength"] == "error":  # otherwise the tokenizer has truncated them
            longest = mask.sum(1).max() - self.facts["prefix_length"]
            if longest > limit:
                raise ValueError(f"an expression has {longest} tokens, more than {limit}")
        return ids[:, :limit], mask[:, :limit]


def upright(image: Image.Image) -> Image.Image:
    """Return an image in RGB, rotated as its EXIF orientation says."""
    return ImageOps.exif_transpose(image).convert("RGB")


def main() -> None:
    folder, path, *expressions = sys.argv[1:]
    boxes, *chances = Grounder(folder).predict(Image.open(path), expressions)
    for number, text in enumerate(expressions):
        sure = (f"{100 * chance[number]:.0f}%" for chance in chances)
        print(*(f"{value:.1f}" for value in boxes[number]), *sure, text)


if __name__ == "__main__":
    main()
