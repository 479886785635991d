"""Train the CLIP that ships as backbone `clipvg-tiny`, pretrained tag `scenes-v1`.

    python tools/train_tiny_clip.py --out runs/tiny-clip

Images are scenes, texts are captions of them with places, sizes and relations; no box is used.
The loss is CLIP's contrastive loss plus FILIP's token-to-patch late interaction, on batches in
which each image is also compared with a corrupted copy of its caption. A killed run resumes from
its last checkpoint. The weights are written as float16 safetensors (`--export FILE`).
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from clipvg.data.scenes.language import caption
from clipvg.data.scenes.render import render_scene
from clipvg.data.scenes.world import COLOURS, SHAPES, TEXTURES, Scene, SceneConfig, sample_scene

CONFIG = Path(__file__).parents[1] / "clipvg/model/tiny/clipvg-tiny.json"
MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
SIZE = 96
_SWAPS = [
    list(COLOURS),
    list(SHAPES),
    list(TEXTURES),
    ["left", "right"],
    ["top", "bottom"],
    ["above", "below"],
    ["small", "medium", "big"],
]


def scene_of(index: int, seed: int) -> Scene:
    """Return scene number `index`; one in four has a single object, so that words are cleaner."""
    rng = np.random.default_rng((seed, index))
    objects = (1, 1) if index % 4 == 0 else (2, 4)
    return sample_scene(rng, SceneConfig(num_objects=objects))


def letterboxed(scene: Scene) -> np.ndarray:
    """Render a scene as (96, 96, 3) uint8, padded with the colour that normalises to zero."""
    fill = tuple(round(255 * m) for m in open_clip.OPENAI_DATASET_MEAN)
    square = Image.new("RGB", (SIZE, SIZE), fill)
    offset = (round((SIZE - scene.width) / 2 - 0.1), round((SIZE - scene.height) / 2 - 0.1))
    square.paste(render_scene(scene), offset)
    return np.asarray(square)


def _render_chunk(arguments: tuple[range, int]) -> np.ndarray:
    indices, seed = arguments
    return np.stack([letterboxed(scene_of(i, seed)) for i in indices])


def rendered(count: int, seed: int, folder: Path) -> np.ndarray:
    """Return scenes as (count, 96, 96, 3) uint8, memory-mapped, rendering them if not done yet."""
    path = folder / f"scenes-{seed}-{count}.npy"
    if not path.exists():
        chunks = [(range(i, min(i + 500, count)), seed) for i in range(0, count, 500)]
        partial = path.with_suffix(".partial.npy")
        pictures = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3)
        )
        with ProcessPoolExecutor(2) as pool:
            for (indices, _), chunk in zip(chunks, pool.map(_render_chunk, chunks), strict=True):
                pictures[indices.start : indices.stop] = chunk
        pictures.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def corrupted(text: str, rng: np.random.Generator) -> str:
    """Return the caption with one attribute, place or relation replaced by another of its kind."""
    words = text.split()
    options = [(i, group) for i, w in enumerate(words) for group in _SWAPS if w in group]
    place, group = options[rng.integers(len(options))]
    words[place] = str(rng.choice([w for w in group if w != words[place]]))
    return " ".join(words)


def build_model() -> CLIP:
    return CLIP(**json.loads(CONFIG.read_text()))


def image_tokens(model: CLIP, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normalised features of the images (B, D) and of their patches (B, P, D)."""
    visual = model.visual
    x = visual._embeds(images)
    x = visual.ln_post(visual.transformer(x)) @ visual.proj
    x = F.normalize(x, dim=-1)
    return x[:, 0], x[:, 1:]


def text_tokens(model: CLIP, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normalised features at EOT (B, D) and of all tokens (B, T, D); T may be < 77."""
    length = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = F.normalize(model.ln_final(x) @ model.text_projection, dim=-1)
    return x[torch.arange(len(ids)), ids.argmax(dim=1)], x


def best_patch(patches: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return (I, T, L): similarity of each token of each text to its best patch in each image."""
    num_images, num_patches, _ = patches.shape
    num_texts, length, _ = tokens.shape
    similarity = (patches.flatten(0, 1) @ tokens.flatten(0, 1).T).view(
        num_images, num_patches, num_texts, length
    )
    return similarity.max(dim=1).values


def late_interaction(
    patches: torch.Tensor, tokens: torch.Tensor, real: torch.Tensor
) -> torch.Tensor:
    """Return (B, B + 1): mean similarity of each text's real tokens to their best patches.

    The last column compares each image with the corrupted copy of its own caption.
    """
    batch = len(patches)
    own, wrong = tokens[:batch], tokens[batch:]
    every = _mean_over_real(best_patch(patches, own), real[:batch])  # (B, B)
    paired = torch.bmm(patches, wrong.transpose(1, 2)).max(dim=1).values  # (B, L)
    return torch.cat([every, _mean_over_real(paired, real[batch:])[:, None]], dim=1)


def _mean_over_real(scores: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return (scores * real).sum(-1) / real.sum(-1)


def contrast(logits: torch.Tensor) -> torch.Tensor:
    """Return symmetric InfoNCE; columns past the batch are further negatives of the images."""
    batch = len(logits)
    target = torch.arange(batch)
    by_image = F.cross_entropy(logits, target)
    return (by_image + F.cross_entropy(logits[:, :batch].T, target)) / 2


def losses(
    model: CLIP, images: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return contrastive and late-interaction loss of B images, captions and corrupted captions."""
    picture, patches = image_tokens(model, images)
    text, tokens = text_tokens(model, ids)
    heat = model.logit_scale.exp().clamp(max=100)
    real = ids > 0
    real[:, 0] = False  # the start token carries no meaning
    return (
        contrast(heat * (picture @ text.T).float()),
        contrast(heat * late_interaction(patches, tokens, real).float()),
    )


class Batches:
    """Random images with new captions and corrupted copies of them, seeded by the step."""

    def __init__(self, count: int, seed: int, batch: int, folder: Path) -> None:
        self.pictures = rendered(count, seed, folder)
        self.scenes = [scene_of(i, seed) for i in range(count)]
        self.seed, self.batch = seed, batch
        self.tokenizer = open_clip.tokenizer.SimpleTokenizer()
        self.ids: dict[str, list[int]] = {}

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Return (B, T) ids with start and end tokens, padded with 0 to the longest text."""
        words = {w for text in texts for w in text.split()}
        for word in words - self.ids.keys():
            self.ids[word] = self.tokenizer.encode(word)
        rows = [[49406, *(i for w in t.split() for i in self.ids[w]), 49407] for t in texts]
        length = max(map(len, rows))
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, 1, step))
        chosen = np.sort(rng.choice(len(self.scenes), self.batch, replace=False))
        pixels = torch.from_numpy(self.pictures[chosen]).permute(0, 3, 1, 2).float() / 255
        texts = [caption(self.scenes[i], rng, max_objects=2) for i in chosen]
        return (pixels - MEAN) / STD, self.encode(texts + [corrupted(t, rng) for t in texts])


def rate_factor(step: int, steps: int) -> float:
    """Warm-up over 500 steps, constant, then linear to zero over the last 30 %."""
    return min(1.0, (step + 1) / 500, (steps - step) / (0.3 * steps))


def train(options: argparse.Namespace) -> CLIP:
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)  # gradients of converged attention are denormal, hence slow
    model = build_model()
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=options.lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    start, spent, path = 0, 0.0, options.out / "checkpoint.pt"
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, spent = state["step"], state["spent"]
    batches = Batches(options.images, options.seed, options.batch, options.out)
    begun, means = time.monotonic() - spent, []
    for step in range(start, options.steps):
        spent = time.monotonic() - begun
        for group in optimizer.param_groups:
            group["lr"] = options.lr * rate_factor(step, options.steps)
        images, ids = batches(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss_clip, loss_filip = losses(model, images, ids)
            loss = loss_clip + loss_filip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        means.append((loss_clip.item(), loss_filip.item()))
        if (step + 1) % 200 == 0:
            clip, filip = np.mean(means, axis=0)
            line = {"step": step + 1, "clip": round(clip, 4), "filip": round(filip, 4)}
            line |= {
                "minutes": round(spent / 60, 2),
                "scale": round(model.logit_scale.exp().item(), 2),
            }
            print(json.dumps(line), flush=True)
            means = []
        if (step + 1) % 500 == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step + 1, "spent": spent}, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
    return model


def export(model: CLIP, path: Path) -> None:
    """Write float16 weights under open_clip's parameter names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-clip"))
    parser.add_argument(
        "--export", type=Path, help="write the weights here (default OUT/scenes-v1.safetensors)"
    )
    parser.add_argument("--images", type=int, default=80_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = train(options)
    export(model, options.export or options.out / "scenes-v1.safetensors")


if __name__ == "__main__":
    main()
