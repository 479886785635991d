"""Convert boxes between an image and the coordinates that a vision-language model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from clipvg.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

Unit = Literal["pixel", "unit", "thousand"]
UNITS: dict[str, Unit] = {unit: unit for unit in get_args(Unit)}
WORDS: dict[str, str] = {
    "pixel": "in pixels",
    "unit": "as shares of the image, from 0 to 1",
    "thousand": "in thousandths of the image, from 0 to 1000",
}
_FULL = {"unit": 1.0, "thousand": 1000.0}
# Unit that models were trained to write, by type; Florence-2's location tokens are thousandths.
_UNITS: dict[str, Unit] = {
    "llava": "unit",
    "qwen2_vl": "thousand",
    "qwen2_5_vl": "pixel",
    "qwen3_vl": "thousand",
    "qwen3_vl_moe": "thousand",
    "internvl": "thousand",
    "glm4v": "thousand",
    "glm4v_moe": "thousand",
    "florence2": "thousand",
}


def unit_of(model_type: str, given: str | None) -> Unit:
    """Return the unit in which a model writes boxes.

    Args:
        model_type: type of the model, as in its configuration.
        given: unit that the user names; None for the known unit of the type.

    Raises:
        InputError: the unit of the type is not known, or there is no such unit.
    """
    unit = given or _UNITS.get(model_type, "")
    if unit not in UNITS:
        begin = f"unit={unit!r} is unknown" if unit else f"models of type {model_type!r}"
        rest = "" if unit else " write boxes in a unit that is not known here"
        raise InputError(
            f"{begin}{rest}; say unit=pixel (of the image as the model sees it), unit=unit (0 to "
            "1) or unit=thousand (0 to 1000)"
        )
    return UNITS[unit]


@dataclass(frozen=True)
class Frame:
    """An image as a model sees it.

    Attributes:
        image: the image, padded to a square if the processor would crop its edges off.
        offset: x and y in pixels of the original image in the padded one.
        seen: width and height in pixels to which the processor resizes it.
        unit: unit of the boxes that the model writes.
    """

    image: Image.Image
    offset: tuple[int, int]
    seen: tuple[int, int]
    unit: Unit

    @classmethod
    def of(cls, image: Image.Image, processor: Any, unit: Unit) -> Frame:
        """Return the frame of an RGB image for a processor."""
        pixels = processor.image_processor
        offset = (0, 0)
        if getattr(pixels, "do_center_crop", None) and _keeps_shape(pixels):
            image, offset = _padded(image)
        return cls(image, offset, _seen(image, pixels) if unit == "pixel" else image.size, unit)

    def to_image(self, box: list[float]) -> list[float]:
        """Convert a box as the model writes it to xyxy pixels of the image."""
        across, down = self._per_unit()
        left, top = self.offset
        x1, y1, x2, y2 = box
        return [x1 * across - left, y1 * down - top, x2 * across - left, y2 * down - top]

    def from_image(self, box: list[float]) -> list[float]:
        """Convert a box of the image, xyxy pixels, to the model's unit, rounded for writing."""
        across, down = self._per_unit()
        (left, top), digits = self.offset, 3 if self.unit == "unit" else None
        x1, y1, x2, y2 = box
        moved = (x1 + left) / across, (y1 + top) / down, (x2 + left) / across, (y2 + top) / down
        return [round(value, digits) for value in moved]

    def _per_unit(self) -> tuple[float, float]:
        """Return the pixels of `image` per unit, across and down."""
        width, height = self.image.size
        full = _FULL.get(self.unit)
        return width / (full or self.seen[0]), height / (full or self.seen[1])


def _keeps_shape(pixels: Any) -> bool:
    """Return whether images keep their aspect ratio when resized, so that a crop loses edges."""
    return getattr(pixels, "size", {}).get("shortest_edge") is not None


def _padded(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    from PIL import Image as Images

    side = max(image.size)
    offset = (side - image.width) // 2, (side - image.height) // 2
    square = Images.new("RGB", (side, side), (124, 116, 104))  # CLIP's mean, as LLaVA pads
    square.paste(image, offset)
    return square, offset


def _seen(image: Image.Image, pixels: Any) -> tuple[int, int]:
    """Return the (width, height) to which Qwen's processors resize an image, else its own."""
    if not hasattr(pixels, "merge_size"):
        return image.size
    _, down, across = pixels(images=[image], return_tensors="pt")["image_grid_thw"][0].tolist()
    return across * pixels.patch_size, down * pixels.patch_size
