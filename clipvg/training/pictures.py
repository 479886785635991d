"""Image features of distinct pictures, in memory or in a memory-mapped file."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipvg.errors import InputError
from clipvg.runtime.files import atomic_path
from clipvg.runtime.progress import progress_bar
from clipvg.training.squares import Squares, read_squares

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel


class CacheTooLargeError(InputError):
    """The image features would not fit into the space allowed."""


class _Block(NamedTuple):
    """Features of pictures that were added together: (U, 1 + P, F), (U, P), (U, 2), by place."""

    features: Tensor
    ignored: Tensor
    sizes: np.ndarray
    errors: dict[int, str]


class PictureStore:
    """Image features by picture file; arguments as of `FeatureCache`.

    Attributes:
        sizes: (U, 2) int64 (width, height) in pixels.
        errors: why a picture could not be read, by number.
        nbytes: size of the features.
    """

    def __init__(
        self,
        model: "GroundingModel",
        *,
        folder: Path | None,
        max_bytes: int | None,
        dtype: torch.dtype,
        num_workers: int,
        on_error: Literal["raise", "null"],
        progress: bool,
    ) -> None:
        self._model, self._num_workers, self._on_error = model, num_workers, on_error
        self._folder, self._max_bytes, self._dtype = folder, max_bytes, dtype
        self._progress = progress
        self.device = torch.device("cpu") if folder else model.device
        self._shape = (1 + model.backbone.grid**2, model.backbone.feature_width)
        self._index: dict[str, int] = {}
        self._blocks: list[Tensor] = []
        self._ignored = torch.zeros(0, self._shape[0] - 1, dtype=torch.bool)
        self.sizes = np.zeros((0, 2), dtype=np.int64)
        self.errors: dict[int, str] = {}
        self.nbytes = 0

    def cover(self, paths: Iterable[Path]) -> None:
        """Encode the pictures not seen yet."""
        new = [path for path in dict.fromkeys(paths) if str(path) not in self._index]
        if not new:
            return
        block = self._in_memory(new) if self._folder is None else self._stored(new, self._folder)
        if block.errors and self._on_error == "raise":  # also where an earlier run went on
            raise InputError(block.errors[min(block.errors)])
        start = len(self.sizes)
        self._blocks.append(block.features)
        self._ignored = torch.cat([self._ignored, block.ignored.to(self._ignored.device)])
        self.sizes = np.concatenate([self.sizes, block.sizes])
        self.errors.update({start + place: why for place, why in block.errors.items()})
        self._index.update((str(path), start + i) for i, path in enumerate(new))
        self.nbytes += block.features.nbytes

    def indices(self, paths: Iterable[Path]) -> np.ndarray:
        """Number of each picture, int64; all must be covered."""
        return np.array([self._index[str(path)] for path in paths], dtype=np.int64)

    def take(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 1 + P, F) float32 and ignored patches (B, P) of some pictures."""
        ignored = self._ignored[numbers]
        low, high = int(numbers.min()), int(numbers.max())
        parts, start = [], 0
        for block in self._blocks:
            stop = start + len(block)
            if start <= low and high < stop:  # the usual case: one table, one block
                places = (numbers - start).to(block.device)
                return block.index_select(0, places).float(), ignored
            parts.append((block, start, stop))
            start = stop
        return self._take_from(parts, numbers), ignored

    def _take_from(self, parts: list[tuple[Tensor, int, int]], numbers: Tensor) -> Tensor:
        features = torch.empty(len(numbers), *self._shape, device=self.device)
        for block, start, stop in parts:
            here = ((numbers >= start) & (numbers < stop)).nonzero()[:, 0]
            places = (numbers[here] - start).to(block.device)
            features[here.to(self.device)] = block.index_select(0, places).to(features)
        return features

    def _in_memory(self, paths: Sequence[Path]) -> _Block:
        """Features on the model's device; on the CPU where that is a GPU without enough room."""
        size, device = self._size(len(paths)), self.device
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
            device = torch.device("cpu")
        self._check_size(size, len(paths), device)
        out = torch.empty(len(paths), *self._shape, dtype=self._dtype, device=device)
        return self._encode(paths, out)

    def _encode(self, paths: Sequence[Path], out: Tensor) -> _Block:
        """Features of pictures, written to `out`."""
        model = self._model
        ignored, sizes, errors = [], [], {}
        for batch in self._squares(paths):
            if batch.errors and self._on_error == "raise":
                raise InputError(next(iter(batch.errors.values())))
            with torch.no_grad():
                features = model.encode_images(batch.pixels.to(model.device))
            out[batch.start : batch.start + len(features)] = features.to(out)
            ignored.append(model.patch_mask(batch.mask))
            sizes.append(batch.sizes)
            errors.update({batch.start + place: why for place, why in batch.errors.items()})
        return _Block(out, torch.cat(ignored), np.concatenate(sizes), errors)

    def _squares(self, paths: Sequence[Path]) -> Iterator[Squares]:
        """Letterboxed pictures, counted by a bar."""
        side, preset = self._model.backbone.image_size, self._model.preset
        bar = progress_bar(
            len(paths), desc="encode", unit="picture", show=self._progress, leave=False
        )
        with bar:
            for batch in read_squares(paths, side, preset, num_workers=self._num_workers):
                yield batch
                bar.update(len(batch.sizes))

    def _stored(self, paths: Sequence[Path], folder: Path) -> _Block:
        """Features out of the folder's file, which is written first where it is missing."""
        file = folder / f"images-{self._file_key(paths)}.npy"
        facts = file.with_suffix(".json")
        if not (file.exists() and facts.exists()):
            self._write(paths, file, facts)
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
        for left in file.parent.glob(f".{file.stem}.*.tmp.npy"):  # by a process that was killed
            left.unlink(missing_ok=True)
        self._check_size(self._size(len(paths)), len(paths), self.device)
        with atomic_path(file) as temporary:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=kind, shape=shape)
            block = self._encode(paths, torch.from_numpy(array))
            array.flush()
            known = {
                "ignored": np.packbits(block.ignored.numpy(), axis=1).tolist(),
                "sizes": block.sizes.tolist(),
                "errors": block.errors,
            }
            with atomic_path(facts) as written:  # before the features: both must be there
                written.write_text(json.dumps(known))

    def _file_key(self, paths: Sequence[Path]) -> str:
        files = []
        for path in paths:
            try:
                facts = path.stat()
                files.append((str(path), facts.st_size, facts.st_mtime_ns))
            except OSError:
                files.append((str(path), -1, -1))
        model = self._model
        rules = [model.image_key, model.preset.patch_mask, str(self._dtype), list(self._shape)]
        return hashlib.sha256(json.dumps([rules, files]).encode()).hexdigest()[:32]

    def _size(self, num_pictures: int) -> int:
        return num_pictures * self._shape[0] * self._shape[1] * self._dtype.itemsize

    def _check_size(self, size: int, num_pictures: int, device: torch.device) -> None:
        limit = self._free(device) + self.nbytes if self._max_bytes is None else self._max_bytes
        if self.nbytes + size > limit:
            where = "on disk" if self._folder else "in memory"
            raise CacheTooLargeError(
                f"image features of {num_pictures} pictures take {(self.nbytes + size) / 1e9:.3g} "
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
        except (AttributeError, ValueError, OSError):  # systems that do not tell
            return 4 << 30
