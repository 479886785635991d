"""The fusion encoder: a post-norm transformer over `[REG] | text | [CLS] | patches`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Features(NamedTuple):
    """Tower features of B labels, and their masks of padding."""

    image: Tensor  # (B, 1 + P, LW), from `GroundingModel.encode_images`
    patch_ignored: Tensor  # (B, P) bool, from `GroundingModel.patch_mask`
    text: Tensor  # (B, T, E), from `GroundingModel.encode_text`
    text_mask: Tensor  # (B, T) bool, True for a real token
    # (B,) int64 row of each label's image, if each image comes once (U rows instead of B)
    image_index: Tensor | None = None


class FusionLayer(nn.Module):
    """One post-norm layer: positions are added to queries and keys only, the feed-forward is ReLU.

    Parameters are named as in `torch.nn.TransformerEncoderLayer`. The attention module only holds
    and initialises the parameters: calling it would project queries, keys and values separately.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.heads = heads
        self.dropout = dropout

    def forward(self, x: Tensor, position: Tensor, keep: Tensor, queries: int | None) -> Tensor:
        """Attend from the first `queries` tokens (all when None) to the kept ones.

        Args:
            x (Tensor[B, S, D]): tokens.
            position (Tensor[S, D]): learned positions.
            keep (Tensor[B, 1, 1, S]): bool, False for tokens that nothing may attend to.
            queries: how many leading tokens to compute.

        Returns:
            Tensor[B, queries, D].
        """
        rate = self.dropout if self.training else 0.0
        asking = x[:, :queries]  # comes first: gradients are added in the reverse of this order
        q, k, v = self._project(x, position, queries)  # (B, H, queries or S, D / H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, dropout_p=rate)
        mixed = self.self_attn.out_proj(mixed.transpose(1, 2).flatten(-2))  # (B, queries, D)
        x = self.norm1(asking + F.dropout(mixed, rate, self.training))
        inner = F.dropout(F.relu(self.linear1(x)), rate, self.training)  # (B, queries, F)
        return self.norm2(x + F.dropout(self.linear2(inner), rate, self.training))

    def reg_attention(self, x: Tensor, position: Tensor, keep: Tensor) -> Tensor:
        """Return the attention weights of the first token, mean over heads: (B, S) float32.

        Arguments as in `forward`; tokens that are not kept have weight 0.
        """
        q, k, _ = self._project(x, position, 1)
        logits = (q @ k.mT).float() / q.shape[-1] ** 0.5  # (B, H, 1, S)
        return logits.masked_fill(~keep, -torch.inf).softmax(-1).mean(1)[:, 0]

    def _project(
        self, x: Tensor, position: Tensor, queries: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values by head, each (B, H, queries or S, D / H)."""
        weight, bias = self.self_attn.in_proj_weight, self.self_attn.in_proj_bias
        width = x.shape[-1]
        placed = x + position  # q = k = x + position, v = x
        if queries is None:
            qk = F.linear(placed, weight[: 2 * width], bias[: 2 * width])  # (B, S, 2D)
            q, k = qk.split(width, dim=-1)
        else:
            q = F.linear(placed[:, :queries], weight[:width], bias[:width])  # (B, queries, D)
            k = F.linear(placed, weight[width : 2 * width], bias[width : 2 * width])
        v = F.linear(x, weight[2 * width :], bias[2 * width :])  # (B, S, D)
        split = (self.heads, width // self.heads)
        q, k, v = (t.unflatten(-1, split).transpose(1, 2) for t in (q, k, v))
        return q, k, v


class FusionEncoder(nn.Module):
    """Post-norm layers that yield the [REG] token; six in CLIP-VG (arXiv 2305.08685).

    Args:
        width: token width D.
        layers: number of layers.
        heads: attention heads; divides width.
        feedforward: hidden width of the feed-forward.
        dropout: probability in attention weights, after attention, inside and after feed-forward.
    """

    def __init__(
        self, width: int, layers: int, heads: int, feedforward: int, *, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FusionLayer(width, heads, feedforward, dropout) for _ in range(layers)
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor, position: Tensor, keep: Tensor) -> Tensor:
        """Return the state of the first token after the last layer.

        Args:
            tokens (Tensor[B, S, D]): the sequence, [REG] first.
            position (Tensor[S, D]): learned positions.
            keep (Tensor[B, S]): bool, False for padding.

        Returns:
            Tensor[B, D]. The last layer computes no other query, which changes nothing: no later
            layer reads them.
        """
        mask = keep[:, None, None]  # (B, 1, 1, S)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, position, mask, None)
        return self.layers[-1](tokens, position, mask, 1)[:, 0]

    def states(self, tokens: Tensor, position: Tensor, keep: Tensor) -> Iterator[Tensor]:
        """Yield all tokens (Tensor[B, S, D]) after each layer, for inspection."""
        mask = keep[:, None, None]
        for layer in self.layers:
            tokens = layer(tokens, position, mask, None)
            yield tokens

    def reg_attention(
        self, tokens: Tensor, position: Tensor, keep: Tensor, *, last_only: bool = False
    ) -> Tensor:
        """Return the attention weights of [REG], mean over heads, by layer: (layers, B, S).

        Arguments as in `forward`; with `last_only` of the last layer alone, (1, B, S). Each row
        sums to 1; tokens that are not kept have weight 0.
        """
        mask, last = keep[:, None, None], len(self.layers) - 1
        inputs = [tokens, *islice(self.states(tokens, position, keep), last)]
        chosen = slice(last if last_only else 0, None)
        layers = cast(list[FusionLayer], list(self.layers))
        pairs = zip(layers[chosen], inputs[chosen], strict=True)
        return torch.stack([layer.reg_attention(x, position, mask) for layer, x in pairs])


def keep_mask(text_mask: Tensor, patch_ignored: Tensor) -> Tensor:
    """Return which tokens of `[REG] | text | [CLS] | patches` may be attended to.

    Args:
        text_mask (Tensor[B, T]): bool, True for a real token.
        patch_ignored (Tensor[B, P]): bool, True for a patch of padding.

    Returns:
        Tensor[B, 2 + T + P] bool; [REG] and [CLS] are always True.
    """
    always = torch.ones_like(text_mask[:, :1])
    return torch.cat([always, text_mask, always, ~patch_ignored], dim=1)
