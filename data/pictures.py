"""People's own picture files, as arrays of 8-bit colours."""

import warnings
from pathlib import Path

import numpy as np

from data.errors import DataError


def open_picture(path: str | Path, *, only_size: tuple[int, int] | None = None):
    """Read a picture file as an upright 8-bit RGB image (`PIL.Image.Image`) on white ground.

    Args:
        only_size: the width and height it must have.

    Raises:
        DataError: there is no such file, it is no picture or a broken one, or it has so many
            pixels (PIL's limit is some 90 million) that unpacking it could exhaust the memory.
    """
    from PIL import Image, ImageOps  # not above: the toy sets do without

    try:
        if Path(path).is_dir():
            raise DataError(f"{path}: is a folder, not a picture")
        if Path(path).exists() and not Path(path).is_file():
            raise DataError(f"{path}: is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if only_size and picture.size != only_size:
                    found, expected = ("{}x{}".format(*size) for size in (picture.size, only_size))
                    raise DataError(f"{path}: is {found} pixels, expected {expected}")
                return _in_rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise DataError(f"{path}: too large, a picture may have {limit:,} pixels") from error
    except DataError:
        raise
    except Exception as error:  # a broken picture can raise nearly anything
        raise DataError(f"{path}: not a readable image") from error


def _in_rgb(picture):
    """Any mode to RGB: 16 bits are scaled to 8, transparency is filled with white."""
    from PIL import Image

    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if picture.mode != "I" or values.max(initial=0) > 255:
            values = values // 257  # 65535 becomes 255
        picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def square_pixels(picture, size: int) -> np.ndarray:
    """The largest central square of a PIL image, scaled to uint8 of shape (3, size, size)."""
    from PIL import Image

    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.crop((left, top, left + side, top + side))
    scaled = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(scaled).transpose(2, 0, 1))
