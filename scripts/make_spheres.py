"""Write the direction sets in src/arcuate/numerics/data: from an installed DIPY, with its notice, and two of our own.

usage: python scripts/make_spheres.py   (needs dipy; nothing else of it is used)
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np

NUMERICS = Path(__file__).resolve().parents[1] / "src" / "arcuate" / "numerics"
NAMES = ("symmetric362", "symmetric642", "symmetric724", "repulsion724", "repulsion100", "repulsion200")
N_EVEN = (300, 480)


def main() -> None:
    from dipy.data import SPHERE_FILES

    from arcuate.phantom.scheme import spread_directions

    (NUMERICS / "data").mkdir(exist_ok=True)
    for name in NAMES:
        content = np.load(SPHERE_FILES[name])
        vertices = content["vertices"].astype("<f8")
        faces = content["faces"].astype("<u2")
        np.savez_compressed(NUMERICS / "data" / f"{name}.npz", vertices=vertices, faces=faces)
        print(f"{name}: {len(vertices)} vertices, {len(faces)} faces")
    for n in N_EVEN:
        directions = spread_directions(n)
        directions *= np.where(directions[:, 2:] < 0, -1.0, 1.0)
        np.savez_compressed(NUMERICS / "data" / f"even{n}.npz", directions=directions.astype("<f8"))
    distribution = importlib.metadata.distribution("dipy")
    notice = next(f for f in distribution.files or [] if f.name == "LICENSE" and "dist-info" in str(f))
    text = Path(str(distribution.locate_file(notice))).read_text(encoding="utf-8")
    which = f"The direction sets {', '.join(NAMES)} in data"
    head = f"{which} are those of DIPY {distribution.version}, under its licence:\n\n"
    (NUMERICS / "LICENSE.dipy").write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    main()
