"""Adapt a PyTorch module of your own: `Wrapped` is all the glue; the rest stands for your code."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from clipvg.curriculum import BoxMeasurer, Fitted, Learner, Run, msa
from clipvg.labels import LabelTable


class MyGrounder(nn.Module):
    """Your model: predicts a box, as fractions of a 100-pixel image, from an expression's words."""

    words = ("red", "green", "blue", "left", "right", "top", "bottom")

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(len(self.words), 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, expressions):
        bags = [[float(word in text.split()) for word in self.words] for text in expressions]
        return self.net(torch.tensor(bags))


# --- glue ---------------------------------------------------------------------------------------
class Wrapped(Learner):
    """Learner that trains, saves, loads and queries the module."""

    def fit(self, labels, *, weights=None, init=None, seed=0, out=None):
        torch.manual_seed(seed)
        model, target = MyGrounder(), torch.from_numpy(labels.boxes()) / 100
        if init is not None:
            model.load_state_dict(init.state_dict())
        factor = torch.ones(len(labels)) if weights is None else torch.tensor(weights).float()
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(150):
            loss = ((model(labels.expressions) - target).abs().sum(1) * factor).sum() / factor.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return Fitted(model)

    def measurer(self, model):
        return BoxMeasurer(lambda labels: 100 * model(labels.expressions).detach().numpy())

    def save(self, model, folder, *, trained_on):
        torch.save(model.state_dict(), folder / "model.pt")

    def load(self, folder):
        model = MyGrounder()
        model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
        return model


# --- end of glue --------------------------------------------------------------------------------
def make_labels(count, source, wrong, seed):
    """Make labels whose words determine the box; a share `wrong` of the boxes is misplaced."""
    rng = np.random.default_rng(seed)
    colour, x, y = rng.integers(0, 3, count), rng.integers(0, 2, count), rng.integers(0, 2, count)
    corner = np.stack([50.0 * x + 5, 50.0 * y + 5], axis=1)
    corner[rng.random(count) < wrong] = rng.uniform(0, 60, 2)
    words = MyGrounder.words
    tail = " next to the tree" if source == "relation" else ""
    return LabelTable.from_columns(
        image=[f"{source}{i}.jpg" for i in range(count)],
        expression=[
            f"{words[c]} thing {words[3 + a]} {words[5 + b]}{tail}"
            for c, a, b in zip(colour, x, y, strict=True)
        ],
        box=np.concatenate([corner, corner + 35], axis=1),
        source=source,
    )


def main(out):
    parts = [make_labels(150, "template", 0.3, 0), make_labels(150, "relation", 0.6, 1)]
    labels, validation = LabelTable.concat(parts), make_labels(60, "human", 0.0, 2)
    with Run(out, config={}, labels=labels, validation=validation) as run:
        result = msa(Wrapped(), run)
    for step in result.steps:
        print(f"{step.source}: r >= {step.threshold:g} by {step.measurer}, {step.kept} labels")
    print(f"accuracy {result.summary.score_before:.2f} -> {result.summary.score:.2f}")
    return result


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp()) / "run")
