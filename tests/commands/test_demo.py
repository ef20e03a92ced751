"""``arcuate demo``: what its table says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from arcuate.commands.demo import summary
from arcuate.study.stages import StageLog


def test_the_table_names_the_extra_that_a_stage_left_out_needs() -> None:
    log = StageLog()
    log.skip("tracts", "finding tracts needs torch. Install it with: pip install 'arcuate[tractseg]'")
    console = Console(width=160)
    with console.capture() as captured:
        console.print(summary(cast(Any, SimpleNamespace(log=log)), []))
    assert "pip install 'arcuate[tractseg]'" in captured.get()
