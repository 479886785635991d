"""Frozen CLIP towers that yield tapped visual tokens and per-token text features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer, Transformer
from torch import Tensor, nn

from clipvg.errors import InputError
from clipvg.model.config import GroundingConfig, ModelOptions
from clipvg.model.fast.towers import can_step, image_levels
from clipvg.model.towers import Towers, is_tag, open_towers


def default_levels(num_blocks: int) -> tuple[int, ...]:
    """Blocks i * (L - 1) // 3 for i = 0 … 3: 12 gives (0, 3, 7, 11), 24 gives (0, 7, 15, 23)."""
    return tuple(sorted({i * (num_blocks - 1) // 3 for i in range(4)}))


class Backbone(nn.Module):
    """CLIP towers, frozen and always in evaluation mode.

    Args:
        towers: the CLIP model and its configuration.
        config: which blocks are tapped (`levels`, `visual`), and whether the image tower's position
            table learns; the published choice when None.
    """

    clip: CLIP | CustomTextCLIP
    image_size: int  # side of the input square in pixels
    patch_size: int  # side of a patch in pixels
    grid: int  # patches per side
    levels: tuple[int, ...]  # the tapped blocks
    width: int  # channels of one level
    feature_width: int  # channels of the image features (levels x width, or embed_dim for "last")
    last_width: int  # channels of the last tapped block, which come last among these
    embed_dim: int  # channels of the text features
    context_length: int  # number of token positions
    tag_sha256: str | None = None  # of the weights as loaded by tag; None if not by tag

    def __init__(self, towers: Towers, config: ModelOptions | None = None) -> None:
        super().__init__()
        config = config or ModelOptions()
        self.clip = towers.clip
        self.config = towers.config
        self.mean, self.std = towers.mean, towers.std  # of the input pixels, RGB in [0, 1]
        self.visual = config.visual
        self.train_visual_positions = config.train_visual_positions
        image, text = self.clip.visual, self.text_tower
        blocks = len(image.transformer.resblocks)
        given = config.levels
        self.levels = _check_levels(given, blocks) if given else default_levels(blocks)
        self.image_size, self.patch_size = image.image_size[0], image.patch_size[0]
        self.grid = image.grid_size[0]
        self.width = image.transformer.width
        self.context_length = text.positional_embedding.shape[0]
        self.embed_dim = _projection_width(text, text.transformer.width)
        self.feature_width, self.last_width = self.width * len(self.levels), self.width
        if self.visual == "last":
            if image.attn_pool is not None or image.proj is None:
                raise InputError(
                    "these towers pool their last layer by attention, so visual='last' has no "
                    "projected tokens. Use visual='levels'."
                )
            self.feature_width = self.last_width = image.proj.shape[1]
        self._keys: dict[str, str] = {}
        self.requires_grad_(False)
        image.positional_embedding.requires_grad_(self.train_visual_positions)
        self.train(False)

    @classmethod
    def create(cls, config: GroundingConfig) -> Backbone:
        """Open the backbone that a configuration names.

        Raises:
            InputError: unknown name, unsupported architecture, unavailable weights.
        """
        backbone = cls(open_towers(config.backbone, config.pretrained), config)
        if is_tag(config.backbone, config.pretrained):
            backbone.tag_sha256 = backbone.weights_sha256()
        return backbone

    @property
    def text_tower(self) -> CLIP | TextTransformer:
        """The module that holds the text tower's parts."""
        return getattr(self.clip, "text", self.clip)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode whatever `mode` says."""
        return super().train(False)

    def image_features(self, images: Tensor) -> Tensor:
        """Return visual tokens (Tensor[U, 1 + P, feature_width]): `image_levels` concatenated."""
        return torch.cat(self.image_levels(images), dim=-1)

    def image_levels(self, images: Tensor) -> list[Tensor]:
        """Return visual tokens, one tensor per level.

        Args:
            images (Tensor[U, 3, S, S]): normalised pixels, S = image_size.

        Returns:
            A list of Tensor[U, 1 + P, width], [CLS] and patches after each tapped block, before the
            last layer norm; for visual="last" one Tensor[U, 1 + P, embed_dim].
        """
        tower, indices = self.clip.visual, list(self.levels)
        if self.visual == "last":
            indices = [len(tower.transformer.resblocks) - 1]
        if can_step(tower, images):
            levels = image_levels(tower, images, indices)
        else:
            taps = tower.forward_intermediates(
                images,
                indices=indices,
                stop_early=True,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
            parts = taps["image_intermediates_prefix"], taps["image_intermediates"]
            levels = [torch.cat(part, dim=1) for part in zip(*parts, strict=True)]
        if self.visual == "last":
            return [tower.ln_post(level) @ tower.proj for level in levels]
        return levels

    def text_features(self, tokens: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Return text tokens after the last layer norm and the projection.

        Args:
            tokens (Tensor[B, T]): int64 ids; T at most context_length. Fewer positions give the
                same features for those kept: attention is causal.
            prefix (Tensor[n, text width], optional): embeddings in place of the first n tokens'.

        Returns:
            Tensor[B, T, embed_dim].
        """
        length = tokens.shape[1]
        position = torch.arange(length, device=tokens.device).expand_as(tokens)
        tower = self.text_tower
        x = self.embed_text(tokens, position, prefix)
        return self.project_text(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))

    def embed_text(self, tokens: Tensor, position: Tensor, prefix: Tensor | None) -> Tensor:
        """Return the input of the first text block.

        Args:
            tokens (Tensor[...]): int64 ids.
            position (Tensor[...]): int64, position of each token in its text.
            prefix (Tensor[n, text width], optional): embeddings in place of the first n tokens'.

        Returns:
            Tensor[..., text width].
        """
        x = self.text_tower.token_embedding(tokens)
        if prefix is not None:
            own = prefix.to(x)[position.clamp(max=len(prefix) - 1)]
            x = torch.where((position < len(prefix))[..., None], own, x)
        return x + self.text_tower.positional_embedding[position]

    def project_text(self, x: Tensor) -> Tensor:
        """Project the last text block's output (..., text width) to features (..., embed_dim)."""
        x = self.text_tower.ln_final(x)
        projection = self.text_tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Module) else x @ projection

    def token_embeddings(self, ids: Sequence[int]) -> Tensor:
        """Return rows of the token embedding table (Tensor[n, text width]), detached."""
        return self.text_tower.token_embedding.weight[list(ids)].detach().clone()

    @property
    def image_key(self) -> str:
        """SHA-256 (hex) of the image tower's weights, architecture and tapped levels.

        Equal keys mean equal image features for equal pixels.
        """
        if self.train_visual_positions:
            self._keys.pop("image", None)
        if "image" not in self._keys:
            tower = self.clip.visual
            facts = [list(self.levels), self.visual, *_tower_facts(tower.transformer)]
            self._keys["image"] = digest_weights(tower.state_dict().items(), facts)
        return self._keys["image"]

    @property
    def text_key(self) -> str:
        """SHA-256 (hex) of the text tower's weights and architecture."""
        if "text" not in self._keys:
            state = self.clip.state_dict().items()
            weights = ((k, v) for k, v in state if not k.startswith(("visual.", "logit_")))
            self._keys["text"] = digest_weights(weights, _tower_facts(self.text_tower.transformer))
        return self._keys["text"]

    def _load_from_state_dict(self, *args: object, **options: object) -> None:
        self._keys.clear()  # they depend on the weights
        super()._load_from_state_dict(*args, **options)

    def weights_sha256(self) -> str:
        """Return the SHA-256 (hex) of all CLIP weights as they are now."""
        return digest_weights(self.clip.state_dict().items(), [])


def _check_levels(levels: Sequence[int], blocks: int) -> tuple[int, ...]:
    picked = tuple(int(i) for i in levels)
    if list(picked) != sorted(set(picked)) or picked[0] < 0 or picked[-1] >= blocks:
        raise InputError(
            f"levels={list(levels)} are not ascending blocks of this tower, which has blocks "
            f"0 … {blocks - 1}. Use for example {list(default_levels(blocks))}."
        )
    return picked


def _projection_width(text: CLIP | TextTransformer, width: int) -> int:
    projection = text.text_projection
    if projection is None:
        return width
    return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]


def _tower_facts(transformer: Transformer) -> list[object]:
    block = transformer.resblocks[0]
    heads = getattr(block.attn, "num_heads", 0)
    return [heads, type(block.mlp.gelu).__name__, getattr(block.ln_1, "eps", 0.0)]


def digest_weights(weights: Iterable[tuple[str, Tensor]], facts: Sequence[object]) -> str:
    """Return the SHA-256 (hex) of named weights and of JSON values."""
    sha = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(weights):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        sha.update(data.view(torch.uint8).numpy().data)
    return sha.hexdigest()
