"""Letters on pictures, in the typeface that matplotlib carries: it has Greek and superscripts."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import MissingExtraError


@lru_cache(maxsize=16)
def typeface(size: int) -> Any:
    """Pillow's font of a height in pixels."""
    from PIL import ImageFont

    package = importlib.util.find_spec("matplotlib")  # where it lies; importing it takes as long as a picture
    if package is None or package.origin is None:
        raise MissingExtraError("matplotlib", "report", "letters on pictures")
    file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size)  # Pillow 10.0 takes no path


def draw_text(
    image: np.ndarray, x: float, y: float, text: str, *, anchor: str, size: int, ink: tuple[int, int, int]
) -> None:
    """Write on an image (height, width, 3) uint8, with a rim of the opposite brightness around the letters.

    Parameters
    ----------
    x, y : pixels from the left and from the top
    anchor : of Pillow's: which point of the text lies there
    size : height of the letters, pixels
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    rim = (0, 0, 0) if sum(ink) > 380 else (255, 255, 255)
    ImageDraw.Draw(picture).text(
        (x, y), text, fill=ink, font=typeface(size), anchor=anchor, stroke_width=max(1, size // 12), stroke_fill=rim
    )
    image[:] = np.asarray(picture)
