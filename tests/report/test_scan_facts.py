"""What a report keeps of the scan itself."""

from __future__ import annotations

import numpy as np
from tables import random_table

from arcuate.dwi import Dwi
from arcuate.report.scan_facts import examine_scan


def test_the_reference_image_is_zero_where_no_b0_volume_has_a_value() -> None:
    """Registration programs stop at NaN."""
    rng = np.random.default_rng(0)
    signal = rng.uniform(50, 100, (6, 6, 4, 20)).astype(np.float32)
    signal[1, 1, 1, :2], signal[2, 2, 2, 0] = np.nan, np.inf
    scan = Dwi.from_arrays(signal, np.eye(4), random_table((0, 2), (1000, 18)))
    reference = examine_scan(scan, None).reference.get_array()
    assert reference[1, 1, 1] == 0
    assert reference[2, 2, 2] == signal[2, 2, 2, 1]
    assert np.isfinite(reference).all()
