"""Write src/arcuate/figures/colormaps.npz: tables of the colormaps that reports use, as matplotlib has them.

usage: python scripts/make_colormaps.py   (reports then need no import of matplotlib, which takes as long as a picture)

Four are in the public domain (CC0), by Stéfan van der Walt, Nathaniel Smith and Eric Firing; the fifth is grey.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

NAMES = ("viridis", "magma", "inferno", "plasma", "gray")
PLACE = Path(__file__).resolve().parents[1] / "src" / "arcuate" / "figures" / "colormaps.npz"


def main() -> None:
    tables = {name: matplotlib.colormaps[name](np.arange(256) / 255, bytes=True)[:, :3] for name in NAMES}
    np.savez_compressed(PLACE, **tables)
    print(f"{PLACE.name}: {', '.join(NAMES)}, {PLACE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
