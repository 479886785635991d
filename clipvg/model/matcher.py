"""A small network that tells whether every word of an expression is found in a box."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS = 3  # a side; a box's features are read in a raster over a box 1.4 times as wide and high
_WIDER = 1.4
_WAVES = (0.5, 1.0, 2.0, 4.0)  # half periods of the box's coordinates in a square
_CERTAIN = 1e-5  # the least log-probability against a pair


class Matcher(nn.Module):
    """The probability that all words of an expression are found in a box.

    Each token attends to the bins of the box; what it finds there, and the box's place, give the
    probability that the token is met; the pair's is the product over the tokens.
    """

    heads = 4

    def __init__(self, region: int, text: int, bins: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.bin, self.value = nn.Linear(region, width), nn.Linear(width, width)
        self.bin_place = nn.Parameter(torch.randn(bins, width) * 0.1)
        self.ask, self.token = nn.Linear(text, width), nn.Linear(text, width)
        self.place = nn.Sequential(
            nn.Linear(4 + 8 * len(_WAVES), width), nn.ReLU(), nn.Linear(width, width)
        )
        last = nn.Linear(width, 1)
        # most tokens are met: the product of a dozen halves would be a hopeless start
        nn.init.constant_(last.bias, 2.0)
        self.met = nn.Sequential(nn.Linear(4 * width, width), nn.ReLU(), nn.Dropout(dropout), last)

    def forward(self, box: Tensor, region: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Return the logit of each of B pairs."""
        bins = F.relu(self.bin(region) + self.bin_place)
        found = F.scaled_dot_product_attention(
            self._split(self.ask(text)), self._split(bins), self._split(self.value(bins))
        )
        pair, token = mask.nonzero(as_tuple=True)
        seen = found.transpose(1, 2).flatten(2)[pair, token]
        said, place = self.token(text[pair, token]), self.place(_waves(box))[pair]
        states = torch.cat([said, seen * said, seen + place, place * said], dim=1)
        each = F.logsigmoid(self.met(states)[:, 0])
        all_met = each.new_zeros(box.shape[0]).index_add(0, pair, each).clamp(max=-_CERTAIN)
        return all_met - torch.log(-torch.expm1(all_met))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)


def bin_features(features: Tensor, boxes: Tensor) -> Tensor:
    """Features (B, C, G, G) at the bins of boxes (B, V, 4), bilinear: (B, V, bins, C)."""
    steps = ((torch.arange(BINS, device=boxes.device) + 0.5) / BINS - 0.5) * _WIDER
    x = boxes[..., 0, None] + steps * boxes[..., 2, None]  # (B, V, bins per side)
    y = boxes[..., 1, None] + steps * boxes[..., 3, None]
    shape = (*x.shape, BINS)
    places = torch.stack([x[:, :, None].expand(shape), y[..., None].expand(shape)], dim=-1)
    places = places.flatten(1, 2) * 2 - 1  # (B, V * bins per side, bins per side, 2)
    found = F.grid_sample(features, places, padding_mode="border", align_corners=False)
    return found.flatten(2).unflatten(2, (boxes.shape[1], -1)).permute(0, 2, 3, 1)


def _waves(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) and waves of their coordinates."""
    angles = torch.cat([boxes * wave * torch.pi for wave in _WAVES], dim=1)
    return torch.cat([boxes, angles.sin(), angles.cos()], dim=1)
