"""Options of a run that were set for a step which was not asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from arcuate.errors import warn
from arcuate.study.stages import NOT_ASKED

if TYPE_CHECKING:
    from arcuate.study.plan import Settings

_STEP_OF = {"robust": "dti", "wmti": "kurtosis", "response_algorithm": "response", "second_pass": "fod"}
_TYPED = {"response_algorithm": "--algorithm"}


def warn_of_idle_options(settings: Settings, left_out: Mapping[str, str]) -> None:
    """Warn of options that differ from the default and whose step ``left_out`` says was not asked for."""
    default = type(settings)()
    for name, step in _STEP_OF.items():
        if getattr(settings, name) != getattr(default, name) and left_out.get(step, "").startswith(NOT_ASKED):
            typed = _TYPED.get(name, f"--{name.replace('_', '-')}")
            warn(f"{typed} changes nothing: it is for the step {step}, which is not among those that were named.")
