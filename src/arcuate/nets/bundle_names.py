"""Names of the tracts that TractSeg's networks put out, in the order of their channels."""

from __future__ import annotations

from arcuate.errors import InputError

_PAIR = ("left", "right")


def _both(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}_{side}" for stem in stems for side in _PAIR)


TRACTS: tuple[str, ...] = (
    *_both("AF", "ATR"),
    "CA",
    *(f"CC_{i}" for i in range(1, 8)),
    *_both("CG", "CST", "MLF", "FPT", "FX", "ICP", "IFO", "ILF"),
    "MCP",
    *_both("OR", "POPT", "SCP", "SLF_I", "SLF_II", "SLF_III", "STR", "UF"),
    "CC",
    *_both("T_PREF", "T_PREM", "T_PREC", "T_POSTC", "T_PAR", "T_OCC"),
    *_both("ST_FO", "ST_PREF", "ST_PREM", "ST_PREC", "ST_POSTC", "ST_PAR", "ST_OCC"),
)
ENDINGS: tuple[str, ...] = tuple(f"{name}_{end}" for name in TRACTS for end in "be")
N_PARTS = 4  # networks that the orientation maps are spread over


def get_bundle_names(classes: str = "All") -> list[str]:
    """Names of the classes, the background "BG" first: ``get_bundle_names("All")[1:]`` belongs to the channels.

    Parameters
    ----------
    classes : "All" (72 tracts), "All_endpoints" (144: beginning ``_b`` and end ``_e`` of each) or "All_Part1" to
        "All_Part4" (18 tracts of each network for orientation maps)
    """
    share = len(TRACTS) // N_PARTS
    known = {"All": TRACTS, "All_endpoints": ENDINGS}
    known |= {f"All_Part{i + 1}": TRACTS[i * share : (i + 1) * share] for i in range(N_PARTS)}
    if classes not in known:
        raise InputError(f"found the classes {classes!r}; expected one of {', '.join(known)}.")
    return ["BG", *known[classes]]
