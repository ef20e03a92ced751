"""``arcuate structural``: bias field, brain and tissues of a T1 image."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import PATH, check_images, threads_option
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import ArcuateCommand, Choice, tell
from arcuate.commands.written import begin_work, own_facts
from arcuate.masks import METHODS


@click.command(cls=ArcuateCommand)
@click.argument("image", type=PATH, metavar="T1")
@out_folder_option("Folder for T1w.nii.gz, mask.nii.gz, dseg.nii.gz (1 CSF, 2 GM, 3 WM) and probseg_*.nii.gz.")
@click.option("--mask", type=PATH, help="Brain mask, on the grid of T1. Default: found.")
@click.option("--mask-method", type=Choice(METHODS), default="auto", show_default=True, help="How it is found.")
@click.option("--bias/--no-bias", default=True, show_default=True, help="Take the bias field out first (N4).")
@threads_option
def structural(image: Path, out: Path, mask: Path | None, mask_method: str, bias: bool) -> None:
    """Bias field (N4), brain and tissues (Atropos) of a T1 image, with ANTs (extra ants)."""
    from arcuate.io.images import open_volume
    from arcuate.structural import TISSUES, read_structural
    from arcuate.study.bids import input_facts, write_map
    from arcuate.volumes.ants_images import require_ants

    inputs = {"t1": image} | ({"mask": mask} if mask else {})
    names = ["T1w", "mask", "dseg", *(f"probseg_{tissue}" for tissue in TISSUES)]
    images = [out / f"{name}.nii.gz" for name in names]
    check_images(images, inputs)
    require_ants("the segmentation of tissues")
    t1 = read_structural(image)
    given = open_volume(mask) if mask else None
    begin_work(images)
    t1 = t1.correct_bias() if bias else t1
    inside = given if given is not None else t1.extract_brain(method=mask_method)
    tissues = t1.estimate_tissues(inside)
    facts = {**own_facts(), "Inputs": input_facts(inputs), **t1.parameters}
    write_map(t1.volume, out / "T1w.nii.gz", facts)
    write_map(inside, out / "mask.nii.gz", {"Type": "Brain", **facts})
    labels = {str(k): name for k, name in enumerate(TISSUES, start=1)}
    write_map(tissues.labels, out / "dseg.nii.gz", {"Labels": labels, "Method": "Atropos", **facts})
    for tissue in TISSUES:
        write_map(tissues.probability(tissue), out / f"probseg_{tissue}.nii.gz", {"Tissue": tissue, **facts})
    tell(f"{out}: T1w, mask, dseg, probseg of {', '.join(TISSUES)}")
