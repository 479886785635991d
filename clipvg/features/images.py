"""Store of image features, in memory or in a memory-mapped file; and decoding of image files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipvg.data.image import decode, read_image
from clipvg.data.letterbox import Letterbox, Square, load_square, make_square
from clipvg.errors import InputError
from clipvg.features.keys import PixelsKey, image_key, pixels_key
from clipvg.runtime.fields import check_fields
from clipvg.runtime.files import atomic_path, reserve
from clipvg.runtime.progress import progress_bar

if TYPE_CHECKING:
    from PIL import Image

    from clipvg.model.grounder import GroundingModel

_IMAGES = 32  # images encoded at a time


class CacheTooLargeError(InputError):
    """The image features would not fit into the space allowed."""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where image features are kept, and how images are read.

    Attributes:
        folder: where to keep them; None keeps them in memory (on the GPU when the model is there).
        max_bytes: largest size of the image features, and of the text features; None limits image
            features to half of the free memory or nine tenths of the free disk, but not text.
        dtype: "float32", or "float16" for half the space at about 3 digits.
        num_workers: threads that decode images; 0 decodes in the main thread, between batches.
        on_error: "raise" raises for the first image that cannot be read; "null" keeps its labels,
            with the reason.
        progress: show a progress bar if encoding takes over two seconds.
    """

    folder: str | Path | None = None
    max_bytes: Annotated[int | None, (0, 2**63 - 1)] = None
    dtype: Literal["float32", "float16"] = "float32"
    num_workers: Annotated[int, (0, 256)] = 0
    on_error: Literal["raise", "null"] = "raise"
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        check_fields(self, "how images are read")


class _Block(NamedTuple):
    """Images added together: features (U, 1 + P, F), ignored (U, P), sizes (U, 2), errors."""

    features: Tensor
    ignored: Tensor
    sizes: np.ndarray
    errors: dict[int, str]


class ImageStore:
    """Store of image features by file."""

    def __init__(self, model: GroundingModel, options: CacheOptions) -> None:
        self._model = model
        self._options = options
        self._folder = None if options.folder is None else Path(options.folder)
        self._dtype = torch.float32 if options.dtype == "float32" else torch.float16
        self.device = model.device if self._folder is None else torch.device("cpu")
        self._shape = (1 + model.backbone.grid**2, model.backbone.feature_width)
        self._index: dict[str, int] = {}
        self._blocks: list[Tensor] = []
        self._ignored = torch.zeros(0, self._shape[0] - 1, dtype=torch.bool)
        # (U, 2) width and height in pixels, upright where EXIF applies; (1, 1) where unreadable
        self.sizes = np.zeros((0, 2), dtype=np.int64)
        self.errors: dict[int, str] = {}  # why an image could not be read, by index
        self.nbytes = 0  # size of the features

    def cover(self, paths: Iterable[Path]) -> None:
        """Encode the images that are not in the store yet."""
        new = [path for path in dict.fromkeys(paths) if str(path) not in self._index]
        if not new:
            return
        block = self._in_memory(new) if self._folder is None else self._stored(new, self._folder)
        if block.errors and self._options.on_error == "raise":  # also if an earlier run kept them
            raise InputError(block.errors[min(block.errors)])
        start = len(self.sizes)
        self._blocks.append(block.features)
        self._ignored = torch.cat([self._ignored, block.ignored.to(self._ignored.device)])
        self.sizes = np.concatenate([self.sizes, block.sizes])
        self.errors.update({start + place: why for place, why in block.errors.items()})
        self._index.update((str(path), start + i) for i, path in enumerate(new))
        self.nbytes += block.features.nbytes

    def indices(self, paths: Iterable[Path]) -> np.ndarray:
        """Return the index of each image, int64; all must be covered."""
        return np.array([self._index[str(path)] for path in paths], dtype=np.int64)

    def take(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 1 + P, F) float32 and ignored patches (B, P) of some images."""
        ignored = self._ignored[numbers]
        features: Tensor | None = None
        start = 0
        for block in self._blocks:
            here = ((numbers >= start) & (numbers < start + len(block))).nonzero()[:, 0]
            found = block.index_select(0, (numbers[here] - start).to(block.device))
            if len(here) == len(numbers):  # the usual case: one table, one block
                return found.float(), ignored
            if features is None:
                features = torch.empty(len(numbers), *self._shape, device=self.device)
            features[here.to(self.device)] = found.to(features)
            start += len(block)
        assert features is not None  # all images are covered
        return features, ignored

    def _in_memory(self, paths: Sequence[Path]) -> _Block:
        """Encode to the model's device, or to the CPU if that is a GPU without enough memory."""
        size, device = self._size(len(paths)), self.device
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
            device = torch.device("cpu")
        self._check_size(size, len(paths), device)
        out = torch.empty(len(paths), *self._shape, dtype=self._dtype, device=device)
        return self._encode(paths, out)

    def _encode(self, paths: Sequence[Path], out: Tensor) -> _Block:
        """Encode images and write their features to `out`."""
        model = self._model
        blank = _blank(model.backbone.image_size)
        ignored, sizes, errors = [], [], {}
        for start, images in self._decoded(paths):
            squares = []
            for place, image in enumerate(images, start):
                if isinstance(image, InputError):
                    if self._options.on_error == "raise":
                        raise image
                    errors[place] = str(image)
                    image = blank
                squares.append(image)
            pixels = torch.stack([square.pixels for square in squares])  # (B, 3, S, S)
            with torch.no_grad():
                features = model.encode_images(pixels.to(model.device))  # (B, 1 + P, F)
            out[start : start + len(features)] = features.to(out)
            ignored.append(model.patch_mask(torch.stack([square.mask for square in squares])))
            sizes += [(square.box.width, square.box.height) for square in squares]
        return _Block(out, torch.cat(ignored), np.array(sizes, dtype=np.int64), errors)

    def _decoded(self, paths: Sequence[Path]) -> Iterator[tuple[int, list[Square | InputError]]]:
        """Yield chunks of images with the position of their first, counted by a progress bar."""
        model = self._model
        load = partial(load_square, size=model.backbone.image_size, preset=model.preset)
        chunks = ((at, paths[at : at + _IMAGES]) for at in range(0, len(paths), _IMAGES))
        bar = progress_bar(
            len(paths), desc="encode", unit="image", show=self._options.progress, leave=False
        )
        with bar, closing(decode(chunks, load, workers=self._options.num_workers)) as decoded:
            for start, images in decoded:
                yield start, images
                bar.update(len(images))

    def _stored(self, paths: Sequence[Path], folder: Path) -> _Block:
        """Read features from the folder's file, writing it first if it is missing or damaged."""
        file = folder / f"images-{self._file_key(paths)}.npy"
        facts = file.with_suffix(".json")
        try:
            return self._mapped(file, facts)
        except (FileNotFoundError, ValueError, EOFError, LookupError):  # missing or damaged
            self._write(paths, file, facts)
        return self._mapped(file, facts)

    def _mapped(self, file: Path, facts: Path) -> _Block:
        array = np.load(file, mmap_mode="c")  # copy on write: torch refuses read-only memory
        known = json.loads(facts.read_text())
        bits = np.unpackbits(np.array(known["ignored"], dtype=np.uint8), axis=1)
        return _Block(
            torch.from_numpy(array),
            torch.from_numpy(bits[:, : self._shape[0] - 1].astype(bool)),
            np.array(known["sizes"], dtype=np.int64),
            {int(place): why for place, why in known["errors"].items()},
        )

    def _write(self, paths: Sequence[Path], file: Path, facts: Path) -> None:
        kind = np.float32 if self._dtype == torch.float32 else np.float16
        shape = (len(paths), *self._shape)
        with atomic_path(file) as temporary:
            self._check_size(self._size(len(paths)), len(paths), self.device)
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=kind, shape=shape)
            reserve(temporary)  # or a full disk would kill the process at a write to the map
            block = self._encode(paths, torch.from_numpy(array))
            array.flush()
            known = {
                "ignored": np.packbits(block.ignored.numpy(), axis=1).tolist(),
                "sizes": block.sizes.tolist(),
                "errors": block.errors,
            }
            with atomic_path(facts) as written:  # before the features: readers need both
                written.write_text(json.dumps(known))

    def _file_key(self, paths: Sequence[Path]) -> str:
        files = []
        for path in paths:
            try:
                facts = path.stat()
                files.append((str(path), facts.st_size, facts.st_mtime_ns))
            except OSError:
                files.append((str(path), -1, -1))
        rules = [image_key(self._model), str(self._dtype)]
        return hashlib.sha256(json.dumps([rules, files]).encode()).hexdigest()[:32]

    def _size(self, num_images: int) -> int:
        return num_images * self._shape[0] * self._shape[1] * self._dtype.itemsize

    def _check_size(self, size: int, num_images: int, device: torch.device) -> None:
        most = self._options.max_bytes
        limit = self._free(device) + self.nbytes if most is None else most
        if self.nbytes + size > limit:
            where = "on disk" if self._folder else "in memory"
            raise CacheTooLargeError(
                f"image features of {num_images} images take {(self.nbytes + size) / 1e9:.3g} "
                f"GB {where}, above the limit of {limit / 1e9:.3g} GB. Raise cache_bytes, use "
                f"feature_dtype='float16', or train with cache_features=False."
            )

    def _free(self, device: torch.device) -> int:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self._folder).free * 9 // 10
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0] // 2
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, ValueError, OSError):  # not all systems tell
            return 4 << 30


def _blank(size: int) -> Square:
    """Return a placeholder for an image that cannot be read; its features are never used."""
    mask = torch.ones(size, size, dtype=torch.bool)
    return Square(torch.zeros(3, size, size), mask, Letterbox(1, 1, size))


def load_squares(path: Path, models: Iterable[GroundingModel]) -> dict[PixelsKey, Square]:
    """Decode an image, once per EXIF rule, and make each model's square of it, equal ones once."""
    images: dict[bool, Image.Image] = {}
    squares: dict[PixelsKey, Square] = {}
    for model in models:
        preset, key = model.preset, pixels_key(model)
        if key in squares:
            continue
        if preset.exif not in images:
            images[preset.exif] = read_image(path, exif=preset.exif)
        squares[key] = make_square(images[preset.exif], model.backbone.image_size, preset)
    return squares


def load_images(path: Path, exif_rules: Iterable[bool]) -> dict[bool, Image.Image]:
    """Decode an image for each EXIF rule: True applies the orientation, False does not."""
    return {exif: read_image(path, exif=exif) for exif in exif_rules}
