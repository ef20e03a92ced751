"""Public scans for tutorials and trials, with the checksums that DIPY publishes."""

from __future__ import annotations

import os
from pathlib import Path

from arcuate.fetch.remote import RemoteFile, RemoteSet, cache_home
from arcuate.numerics.user_folders import home_folder, is_there

ENVIRONMENT = "ARCUATE_DATA"
_STANFORD = "https://stacks.stanford.edu/file/druid:yx282xq2090"
_SHERBROOKE = "https://workshop.dipy.org/services/data/researchworks/bitstream/handle/1773/38475"

SCANS = {
    "stanford_hardi": RemoteSet(
        "stanford_hardi",
        (
            RemoteFile("HARDI150.nii.gz", f"{_STANFORD}/dwi.nii.gz", "md5:0b18513b46132b4d1051ed3364f2acbc"),
            RemoteFile("HARDI150.bval", f"{_STANFORD}/dwi.bvals", "md5:4e08ee9e2b1d2ec3fddb68c70ae23c36"),
            RemoteFile("HARDI150.bvec", f"{_STANFORD}/dwi.bvecs", "md5:4c63a586f29afc6a48a5809524a76cb4"),
        ),
        "one head, 2 mm, 10 b=0 and 150 directions at b=2000",
        "CC-BY",
        "Rokem et al. 2015, PLoS ONE 10:e0123272",
        87,
    ),
    "sherbrooke_3shell": RemoteSet(
        "sherbrooke_3shell",
        (
            RemoteFile("HARDI193.nii.gz", f"{_SHERBROOKE}/HARDI193.nii.gz", "md5:0b735e8f16695a37bfbd66aab136eb66"),
            RemoteFile("HARDI193.bval", f"{_SHERBROOKE}/HARDI193.bval", "md5:e9b9bb56252503ea49d31fb30a0ac637"),
            RemoteFile("HARDI193.bvec", f"{_SHERBROOKE}/HARDI193.bvec", "md5:72818d139f803f19ddb032cd011d452f"),
        ),
        "one head, 2 mm, b=0 and 64 directions at each of b=1000, 2000, 3500",
        "as published by DIPY",
        "Sherbrooke Connectivity Imaging Laboratory; Garyfallidis et al. 2014, Front. Neuroinform. 8:8",
        50,
    ),
}


def scans_folder(name: str, folder: str | Path | None = None) -> Path:
    """Folder of one public scan: under ``folder``, else ``$ARCUATE_DATA``, else the user's cache folder.

    A scan that DIPY has fetched already (``~/.dipy/<name>``) is found there.
    """
    if folder is not None:
        return Path(folder) / name
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named) / name
    dipys = Path(os.environ.get("DIPY_HOME", home_folder() / ".dipy")) / name
    if all(is_there(dipys / file.name) for file in SCANS[name].files):
        return dipys
    return cache_home() / "scans" / name
