"""The [REG] state becomes a box."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BoxHead(nn.Module):
    """Three-layer perceptron with ReLU and a sigmoid at the end.

    Args:
        width: width of the [REG] state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)]
        )

    def hidden(self, state: Tensor) -> Tensor:
        """Return what the last layer reads, (B, D)."""
        return F.relu(self.layers[1](F.relu(self.layers[0](state))))

    def logits(self, state: Tensor) -> Tensor:
        """Return box coordinates (Tensor[B, 4]) before the sigmoid."""
        return self.layers[2](self.hidden(state))

    def forward(self, state: Tensor) -> Tensor:
        """Predict boxes from [REG] states.

        Args:
            state (Tensor[B, D]): output of the fusion encoder.

        Returns:
            Tensor[B, 4] in [0, 1], cxcywh of the letterboxed square; float32 even under autocast.
        """
        logits = self.logits(state)
        return (logits if logits.itemsize > 4 else logits.float()).sigmoid()
