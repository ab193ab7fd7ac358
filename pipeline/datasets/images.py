"""Decode an image file of any format that Pillow reads into a uint8 array of a given shape."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.support.errors import UserError

#: Largest height or width in pixels. Pillow limits their product to 89 million, but a single row that long takes a
#: minute to resize.
LONGEST = 32_768
#: Formats that are programs: Pillow would run them in an external interpreter.
PROGRAMS = ("EPS",)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in Image.ID if kind not in PROGRAMS)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings within the block, but turn Pillow's warning about a decompression bomb into an error.

    Pillow warns about oddities such as a corrupt EXIF block, which do not concern the user.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(data: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Decode an image. Call it within `quiet`.

    Transparent parts become black, 16 bits are scaled to 8, and of an animation the first frame is taken. An image of
    another size is resized with antialiased bilinear interpolation, without keeping its proportions.

    Args:
        data: The bytes of the image file.
        name: The name of the file, for error messages.
        shape: (height, width) for grey, (height, width, 3) for RGB.

    Returns:
        The image as uint8 of `shape`.

    Raises:
        UserError: if Pillow cannot read the image, it has more than 16 bits, or it has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as opened:
            if max(opened.size) > LONGEST:
                raise UserError(
                    f"{name}: too large an image ({opened.width:,} x {opened.height:,} pixels, at most {LONGEST:,} a side "
                    "are read); shrink or remove it"
                )
            image = bring_to(_eight_bits(opened), shape)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name}: too large an image ({error}); shrink or remove it") from None
    except Exception as error:  # Pillow's readers raise many kinds of exceptions
        detail = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise UserError(f"{name}: not an image that Pillow can read{detail}; fix or remove it") from None
    return np.asarray(image)


def bring_to(image: Image.Image, shape: tuple[int, ...]) -> Image.Image:
    """Convert an 8-bit image to a given shape.

    Args:
        image: An 8-bit image.
        shape: (height, width) for grey, (height, width, 3) for RGB.

    Returns:
        The image in grey or RGB, resized with antialiased bilinear interpolation if its size differs.
    """
    image = image.convert("L" if len(shape) == 2 else "RGB")
    size = (shape[1], shape[0])
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert an image to grey, RGB or another 8-bit mode without an alpha channel, transparent parts on black."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have more than 16 bits; save it with 8 or 16")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 257 = 65535 / 255
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB")
    return image.convert("RGB") if image.mode == "P" else image
