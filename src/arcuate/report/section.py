"""What a section of the page holds: pictures, numbers, and what is missing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Picture:
    """One picture of the page: a PNG, two of them to slide between, or a chart as SVG.

    Parameters
    ----------
    alt : what stands for it where it cannot be seen
    caption : what is said below it
    name : of the file when it is saved
    png : the picture, or the one before
    after : the one to slide to
    svg : a chart
    sides : what the two pictures are called
    is_wide : whether it takes the page's width
    """

    alt: str
    caption: str = ""
    name: str = "picture"
    png: bytes = b""
    after: bytes = b""
    svg: str = ""
    sides: tuple[str, str] = ("before", "after")
    is_wide: bool = False

    @property
    def source(self) -> str:
        """The PNG as a data: address."""
        return _address(self.png)

    @property
    def source_after(self) -> str:
        return _address(self.after)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the PNG, pixels: its header says them."""
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


@dataclass(frozen=True)
class Table:
    """Numbers beside the pictures."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass
class Section:
    """A part of the page: what it is about, pictures, numbers, and what is missing from it."""

    anchor: str
    title: str
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    charts: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.pictures or self.charts or self.tables or self.missing)


def png_bytes(image: np.ndarray) -> bytes:
    """(height, width, 3) uint8 as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
