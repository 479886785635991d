"""Draw the README's first image: predicted and true boxes in test scenes of the demo.

    make demo
    .venv/bin/python tools/draw_readme_image.py runs/demo/seed-0 docs/images/demo.jpg

It shows the first square test scenes with three objects that each have an expression, regardless
of what the model predicts, at four times the size that the demo renders.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

import clipvg
from clipvg.data.scenes import render_scene
from clipvg.data.scenes.labels import label_scenes
from clipvg.demo import NUM_TEST
from clipvg.report.drawing import Mark, draw_boxes, save_image
from clipvg.report.style import CYCLE

SCALE, COLUMNS, ROWS, GAP = 4, 2, 2, 12
OBJECTS = 3


def panels(folder: Path) -> Iterator[Image.Image]:
    """Yield scenes with predicted (solid) and true (dashed) boxes, one colour per expression."""
    seed = int(folder.name.removeprefix("seed-"))
    made = label_scenes(NUM_TEST, seed=3 * seed + 2)  # as the demo makes them
    scenes = [scene for scene, _ in made]
    model = clipvg.load(folder / "ssa" / "model")
    test = clipvg.read_labels(folder / "test" / "labels.parquet")
    names, image_of = test.distinct_images()
    for number, name in enumerate(names):
        scene, rows = scenes[int(Path(name).stem)], np.flatnonzero(image_of == number)
        rows = rows[np.sort(np.unique(test.truth()[rows], axis=0, return_index=True)[1])]
        is_square = scene.width == scene.height  # so that they fit beside each other
        if not (is_square and len(scene.objects) == len(rows) == OBJECTS):
            continue
        image = render_scene(scene, scale=SCALE)
        texts = [test.expressions[row] for row in rows]
        boxes = model.predict(image, texts, scores=False)
        truth = SCALE * test.truth()[rows]
        right = [Mark(box, role="true", color=CYCLE[i]) for i, box in enumerate(truth)]
        found = [
            Mark(box, text, color=CYCLE[i])
            for i, (box, text) in enumerate(zip(boxes, texts, strict=True))
        ]
        yield draw_boxes(image, [*found, *right])


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    shown = list(islice(panels(folder), ROWS * COLUMNS))
    rows = [shown[start : start + COLUMNS] for start in range(0, len(shown), COLUMNS)]
    width, heights = shown[0].width + GAP, [max(p.height for p in row) + GAP for row in rows]
    sheet, y = Image.new("RGB", (COLUMNS * width - GAP, sum(heights) - GAP), "white"), 0
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (column * width, y))
        y += height
    print(save_image(sheet, out))


if __name__ == "__main__":
    main()
