from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.images import decode, quiet
from pipeline.support.errors import UserError

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_pixels_back(form: str, options: dict[str, object]) -> None:
    assert np.array_equal(decode(saved(Image.fromarray(COLOUR), form, **options), "x", (5, 7, 3)), COLOUR)
    grey = decode(saved(Image.fromarray(GREY).convert("RGB"), form, **options), "x", (5, 7))
    assert np.array_equal(grey, GREY)


def test_another_size_is_resized_and_grey_becomes_three_equal_channels() -> None:
    image = decode(saved(Image.fromarray(GREY)), "x", (10, 4, 3))
    assert image.shape == (10, 4, 3)
    assert np.array_equal(image[..., 0], image[..., 2])
    assert np.array_equal(image[..., 0], np.asarray(Image.fromarray(GREY).resize((4, 10), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_to_8(form: str) -> None:
    grey = np.array([[0, 1, 127], [128, 254, 255]], np.uint8)
    for off in (-100, 0, 100):
        deep = Image.fromarray(np.clip(grey.astype(int) * 257 + off, 0, 65535).astype(np.uint16))
        assert np.array_equal(decode(saved(deep, form), "x", (2, 3)), grey)
        assert np.array_equal(decode(saved(deep, form), "x", (2, 3, 3))[..., 1], grey)


def test_a_palette_gives_its_colours() -> None:
    palette = Image.new("P", (2, 2))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette.putdata([0, 1, 2, 3])
    wanted = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]]
    assert decode(saved(palette), "x", (2, 2, 3)).tolist() == wanted
    transparent = decode(saved(palette, transparency=1), "x", (2, 2, 3)).tolist()
    assert transparent == [[[255, 0, 0], [0, 0, 0]], wanted[1]]
    assert decode(saved(palette, "GIF"), "x", (2, 2, 3)).tolist() == wanted


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_become_black(mode: str) -> None:
    image = Image.new(mode, (2, 1))
    white = (255,) * (len(mode) - 1)
    image.putpixel((0, 0), (*white, 0))
    image.putpixel((1, 0), (*white, 128))
    assert decode(saved(image), "x", (1, 2, 3)).tolist() == [[[0, 0, 0], [128, 128, 128]]]
    assert decode(saved(image), "x", (1, 2)).tolist() == [[0, 128]]


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "LAB"])
def test_other_modes_are_read(mode: str) -> None:
    image = Image.new(mode, (2, 2))
    assert decode(saved(image, "TIFF"), "x", (2, 2, 3)).shape == (2, 2, 3)


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", saved(Image.fromarray(COLOUR))[:60]], ids=["empty", "csv", "cut"])
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(UserError, match=r"birds/7\.png: not an image that Pillow can read"):
        decode(data, "birds/7.png", (5, 7))


@pytest.mark.parametrize("value", [0.5, 70_000, -1])
def test_more_than_16_bits_is_refused(value: float) -> None:
    image = Image.fromarray(np.full((2, 2), value, np.float32 if value == 0.5 else np.int32))
    with pytest.raises(UserError, match="save it with 8 or 16"):
        decode(saved(image, "TIFF"), "x", (2, 2))


@pytest.mark.parametrize("limit", [100, 20], ids=["warning", "error"])
def test_a_decompression_bomb_is_refused(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.new("L", (12, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with quiet(), pytest.raises(UserError, match=r"bomb\.png: too large an image"):
        decode(data, "bomb.png", (5, 7))


def test_pillows_other_warnings_do_not_leak() -> None:
    with quiet():
        warnings.warn("Corrupt EXIF data", UserWarning, stacklevel=1)
