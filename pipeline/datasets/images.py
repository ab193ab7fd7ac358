"""One image file -> one uint8 array of a given shape, whatever format Pillow reads."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.support.errors import UserError

#: Pixels of a side. Pillow itself bounds their product at 89 million, but a line of so many takes a minute to resize.
LONGEST = 32_768
#: Formats that are programs, which Pillow gives to an interpreter.
PROGRAMS = ("EPS",)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in Image.ID if kind not in PROGRAMS)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pillow's warnings about odd files (a corrupt EXIF block) are no news to the user; a decompression bomb is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(data: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The image as uint8 of `shape`: (height, width) grey, or (height, width, 3) RGB. To be called within `quiet`.

    Transparent parts become black; 16 bits are scaled to 8; of an animation the first frame is taken; another size is
    brought to `shape` by antialiased bilinear resizing, without keeping the proportions. name: for the error.

    Raises UserError where Pillow cannot read the image, or refuses to because it would unpack to a bomb.
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
    except Exception as error:  # each of Pillow's readers fails in its own ways
        told = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise UserError(f"{name}: not an image that Pillow can read{told}; fix or remove it") from None
    return np.asarray(image)


def bring_to(image: Image.Image, shape: tuple[int, ...]) -> Image.Image:
    """An image of 8 bits, grey or RGB as `shape` says, by antialiased bilinear resizing where its size is another."""
    image = image.convert("L" if len(shape) == 2 else "RGB")
    size = (shape[1], shape[0])
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey, RGB or another mode of 8 bits, without alpha."""
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
