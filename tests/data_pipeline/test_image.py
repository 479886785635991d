import io
import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from clipvg.data import read_image
from clipvg.errors import InputError


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.fixture
def rgb(rng) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))


def test_rgb_is_returned_as_it_is(rgb, tmp_path):
    read = read_image(save(tmp_path / "a.png", rgb))
    assert read.mode == "RGB"
    assert np.array_equal(read, rgb)
    assert np.array_equal(read_image(rgb), rgb)
    assert np.array_equal(read_image(str(tmp_path / "a.png")), rgb)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert np.asarray(read_image(path))[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([[0, 0.5, 1]]), [0, 128, 255]),
        (np.float32([[0, 128, 255]]), [0, 128, 255]),
        (np.int32([[0, 1, 255]]), [0, 1, 255]),
        (np.int32([[0, 0, 65535]]), [0, 0, 255]),
        (np.int32([[0, 1, 0]]), [0, 1, 0]),
        (np.float32([[np.nan, 0, 1]]), [0, 0, 255]),
    ],
)
def test_wide_tiffs(tmp_path, values, expected):
    path = save(tmp_path / "a.tif", Image.fromarray(values))
    assert np.asarray(read_image(path))[0, :, 0].tolist() == expected


def test_alpha_is_dropped_not_composited(rgb, tmp_path):
    alpha = Image.new("L", rgb.size, 0)
    see_through = rgb.copy()
    see_through.putalpha(alpha)
    assert np.array_equal(read_image(save(tmp_path / "a.png", see_through)), rgb)
    grey = Image.merge("LA", [rgb.convert("L"), alpha])
    read = np.asarray(read_image(save(tmp_path / "b.png", grey)))
    assert np.array_equal(read[..., 0], np.asarray(rgb.convert("L")))


@pytest.mark.parametrize("mode", ["L", "1", "P", "PA", "LAB", "YCbCr", "HSV", "RGBa", "RGBX"])
def test_other_modes_become_rgb(rgb, mode):
    if mode == "PA":
        image = rgb.convert("P").convert("PA")
    else:
        image = rgb.convert("RGBA").convert(mode) if mode == "RGBa" else _converted(rgb, mode)
    read = read_image(image)
    assert read.mode == "RGB"
    assert read.size == rgb.size


def _converted(image, mode):
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert(mode)


def test_palette_with_transparency_and_animation(rgb, tmp_path):
    palette = rgb.quantize(8)
    path = save(tmp_path / "a.png", palette, transparency=0)
    assert np.array_equal(read_image(path), palette.convert("RGB"))
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert np.asarray(read_image(path))[0, 0].tolist() == [255, 0, 0]


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    red = Image.new("RGB", (16, 16), (220, 30, 40))
    path = save(tmp_path / "a.jpg", red.convert("CMYK"), quality=95)
    assert np.abs(np.asarray(read_image(path), int) - [220, 30, 40]).max() < 8


def test_exif_orientation_is_applied_or_ignored(rgb, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = save(tmp_path / "a.png", rgb, exif=exif)
    assert np.array_equal(read_image(path), rgb.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(read_image(path, exif=False), rgb)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_ignored(rgb, tmp_path):
    path = save(tmp_path / "a.jpg", rgb, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_image(path).size == rgb.size


def jpeg() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, this is text", "not an image"),
    "truncated jpeg": (jpeg()[: len(jpeg()) // 2], "truncated"),
    "truncated png": (png()[:-30], "damaged or truncated"),
    "png with a bad checksum": (png()[:45] + b"\x00\x01" + png()[47:], "damaged"),
    "header only": (jpeg()[:20], "not an image"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "convert it (HEIC with pillow"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_files_give_one_line(tmp_path, kind):
    content, expected = BAD[kind]
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert expected in message
    assert "bad.jpg" in message
    assert "\n" not in message


def test_missing_folder_and_bomb(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"none\.jpg: no such file; check the image root"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match=r"a folder; name the file in it|no such file"):
        read_image(tmp_path)
    path = save(tmp_path / "big.png", Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"big\.png: more than 1,000 pixels; shrink the image"):
        read_image(path)


def test_a_pipe_and_a_device_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", "/dev/zero"):
        with pytest.raises(InputError, match="no file, but a pipe or device"):
            read_image(path)


def test_name_with_a_null_character():
    with pytest.raises(InputError, match=r"a folder; name the file in it|no such file"):
        read_image("a\0b.jpg")


@pytest.mark.parametrize("error", [TypeError, KeyError, IndexError, RuntimeError])
def test_whatever_a_decoder_raises_means_damage(rgb, tmp_path, monkeypatch, error):
    path = save(tmp_path / "a.png", rgb)

    def fail(image):
        raise error("inside")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(InputError, match=r"a\.png: damaged or truncated image \('?inside"):
        read_image(path)
