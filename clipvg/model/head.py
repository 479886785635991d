"""The box head: a perceptron from the [REG] state to a box."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BoxHead(nn.Module):
    """Three-layer perceptron with ReLU and a sigmoid at the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)]
        )

    def hidden(self, state: Tensor) -> Tensor:
        """Return the input of the last layer, (B, D)."""
        return F.relu(self.layers[1](F.relu(self.layers[0](state))))

    def logits(self, state: Tensor) -> Tensor:
        """Return box coordinates (Tensor[B, 4]) before the sigmoid."""
        return self.layers[2](self.hidden(state))

    def forward(self, state: Tensor) -> Tensor:
        """Return boxes (B, 4) of [REG] states (B, D): cxcywh in [0, 1] of the letterboxed square.

        They are float32 even under autocast; float64 weights give float64.
        """
        logits = self.logits(state)
        return (logits if logits.itemsize > 4 else logits.float()).sigmoid()
