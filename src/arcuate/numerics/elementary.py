"""Logarithm and exponential of whole arrays inside kernels, and the smaller of two numbers: all that vectorises.

numba calls the scalar ``math.log`` once per element; these take about a tenth of the time. Both are accurate to a
few units in the last place (see the tests).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from arcuate.numerics.compiled import njit

_LN2_HIGH = 6.93147180369123816490e-01  # 32 leading bits of ln 2, so that k * _LN2_HIGH is exact
_LN2_LOW = 1.90821492927058770002e-10
_INVERSE_LN2 = 1.4426950408889634
_ROUNDER = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest integer in the lowest bits
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
_LARGEST_EXPONENT = 700.0


def _of_two(name: str, a: Any) -> Any:
    """Code of LLVM's ``name`` for two numbers of one type, of which none is NaN."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        bits = signature.return_type.bitwidth
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 2), f"{name}.f{bits}")
        return builder.call(function, values, fastmath=("nnan", "nsz"))

    return a(a, a), code


@intrinsic
def smaller(typing_context, a, b):
    """The smaller of two floats of one type, none NaN.

    Of a comparison whose result replaces one of the two, LLVM makes a store of some lanes, which takes ten times as
    long as that of all on some processors.
    """
    return _of_two("llvm.minnum", a)


@intrinsic
def larger(typing_context, a, b):
    """The larger of two floats, see :func:`smaller`."""
    return _of_two("llvm.maxnum", a)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def log_in_place(x, exponents):
    """Replace ``x`` (positive, normal float64) by its natural logarithm; ``exponents`` is scratch of the same size.

    x = 2^k m with m in [sqrt(1/2), sqrt(2)), and log m = 2 artanh(s) with s = (m - 1) / (m + 1), |s| < 0.172.
    """
    bits = x.view(np.int64)
    for i in range(x.size):
        k = (bits[i] - _SQRT_HALF_BITS) >> 52
        exponents[i] = k
        bits[i] -= k << 52
    for i in range(x.size):
        s = (x[i] - 1.0) / (x[i] + 1.0)
        z = s * s
        tail = 1 / 17 + z * (1 / 19 + z * (1 / 21))
        tail = 1 / 11 + z * (1 / 13 + z * (1 / 15 + z * tail))
        tail = z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * tail))))
        x[i] = exponents[i] * _LN2_HIGH + (2 * s + (2 * s * tail + exponents[i] * _LN2_LOW))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def exp_in_place(x, powers):
    """Replace ``x`` (float64) by its exponential, |x| limited to 700; ``powers`` is scratch of the same size.

    x = k ln 2 + r with |r| <= ln(2) / 2; e^r from its series to r^13, 2^k through the bits of the exponent.
    """
    bits = powers.view(np.int64)
    for i in range(x.size):
        value = x[i]
        value = _LARGEST_EXPONENT if value > _LARGEST_EXPONENT else value
        value = -_LARGEST_EXPONENT if value < -_LARGEST_EXPONENT else value
        shifted = value * _INVERSE_LN2 + _ROUNDER
        k = shifted - _ROUNDER
        x[i] = (value - k * _LN2_HIGH) - k * _LN2_LOW
        powers[i] = shifted
    for i in range(x.size):
        bits[i] = (bits[i] + 1023) << 52
    for i in range(x.size):
        r = x[i]
        tail = 1 / 39916800 + r * (1 / 479001600 + r * (1 / 6227020800))
        tail = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * tail))
        tail = 1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * tail))
        x[i] = powers[i] * (1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * tail)))))
