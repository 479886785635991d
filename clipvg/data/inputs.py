"""Convert image inputs (path, bytes, array, tensor or PIL image) to RGB PIL images."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from clipvg.data.image import read_image
from clipvg.errors import InputError
from clipvg.runtime.images import opened

_File: TypeAlias = str | Path | bytes | bytearray | memoryview | IO[bytes] | Mapping[str, Any]
ImageInput: TypeAlias = _File | Image.Image | np.ndarray | Tensor

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/{1,2}|data:")
_CHANNELS = (1, 3, 4)
_KINDS = (
    "pass a path, bytes, a file opened with 'rb', a PIL image, a NumPy array (height, width, 3) "
    "or a torch tensor (3, height, width)"
)


def as_image(source: ImageInput, *, exif: bool = True) -> Image.Image:
    """Convert any supported kind of image to an RGB PIL image.

    Arrays and tensors are greyscale, RGB or RGBA (alpha is dropped), as uint8 or as float in
    [0, 1]. OpenCV reads images as BGR: pass ``image[..., ::-1]``. Data frames made by Hugging
    Face's datasets hold images as dictionaries with the file's bytes or path.

    Args:
        source: a path, the bytes of an image file, a binary stream of one (read from its current
            position), a PIL image, a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a
            torch tensor (H, W), (1, H, W), (3, H, W) or (4, H, W), or such a dictionary.
        exif: apply the EXIF orientation; arrays have none.

    Raises:
        InputError: the source is a URL, is damaged, or is not an image by its type, shape or dtype.
    """
    if isinstance(source, Mapping):
        return as_image(source.get("bytes") or source.get("path") or b"", exif=exif)
    if isinstance(source, str | Path):
        _refuse_address(str(source))
    if isinstance(source, str | Path | Image.Image):
        return read_image(source, exif=exif)
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else _read(source)
    if not data:
        raise InputError("the image has no bytes; pass those of a whole image file")
    with opened(io.BytesIO(data), "the bytes given") as image:
        return read_image(image, exif=exif)


def as_list(images: ImageInput | Sequence[ImageInput]) -> tuple[list[ImageInput], bool]:
    """Return images as a list, and whether a single image was given."""
    if isinstance(images, list | tuple):
        return list(images), False
    return [images], True  # type: ignore[list-item]  # another sequence is refused when it is read


def _refuse_address(path: str) -> None:
    if _ADDRESS.match(path):
        shown = path if len(path) < 80 else path[:80] + "…"
        raise InputError(
            f"{shown}: addresses are not fetched; download the image and pass its path or bytes"
        )


def _read(source: object) -> bytes:
    read = getattr(source, "read", None)
    if read is None:
        several = "; several images are a list: list(images)"
        hint = several if isinstance(source, Iterable) else ""
        raise InputError(f"an image is a {type(source).__name__}; {_KINDS}{hint}")
    data = read()
    if not isinstance(data, bytes):
        raise InputError("the file of the image was opened as text; open it with 'rb'")
    return data


def _from_tensor(tensor: Tensor) -> Image.Image:
    shape = tuple(tensor.shape)
    if tensor.ndim == 4:
        raise InputError(f"a tensor of shape {shape} is several images; pass list(tensor)")
    if tensor.ndim == 3:
        if shape[0] not in _CHANNELS:
            hint = "; permute(2, 0, 1) it" if shape[2] in _CHANNELS else ""
            raise InputError(f"a tensor of shape {shape} is not (3, height, width){hint}")
        tensor = tensor.permute(1, 2, 0)
    tensor = tensor.detach().cpu()
    return _from_array((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape
    if array.ndim == 4:
        raise InputError(f"an array of shape {shape} is several images; pass list(array)")
    if array.ndim == 3 and shape[2] not in _CHANNELS:
        hint = "; transpose(1, 2, 0) it" if shape[0] in _CHANNELS else ""
        raise InputError(f"an array of shape {shape} is not (height, width, 3){hint}")
    if array.ndim not in (2, 3) or not array.size:
        raise InputError(f"an array of shape {shape} is not an image; pass (height, width, 3)")
    if np.issubdtype(array.dtype, np.floating):
        array = _eight_bits(array)
    elif array.dtype != np.uint8:
        raise InputError(
            f"an array of {array.dtype} is not an image; pass uint8, or floats from 0 to 1"
        )
    if array.ndim == 3:
        array = array[..., 0] if shape[2] == 1 else array[..., :3]
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """Convert values in [0, 1] to uint8, clipping rounding noise outside; refuse other values."""
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # False for NaN as well
        if np.isnan(low + high):
            raise InputError("a floating image holds NaN; give every pixel a value from 0 to 1")
        raise InputError(
            f"a floating image has values from {low:.4g} to {high:.4g}, expected 0 to 1; divide "
            "by 255, or undo its standardisation"
        )
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
