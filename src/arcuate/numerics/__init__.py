"""Mathematics on arrays; knows no MRI words.

Where compiled kernels are kept must be settled before the first is decorated, so that is done here, where every module
with kernels comes by.

Conventions of kernels, here and in :mod:`arcuate.models`:

- **Three levels.** A function that checks, precomputes and allocates (typed, documented for users); a kernel that
  takes one chunk of rows (:func:`~arcuate.numerics.compiled.kernel`); functions for one row, or for eight rows side by
  side, that only kernels call (:func:`~arcuate.numerics.compiled.inner`).
- **Chunks, not prange.** :func:`~arcuate.numerics.compiled.run_in_chunks` gives chunks of fixed size to threads. What a
  chunk computes depends on its own rows alone, so no result depends on the number of threads.
- **Arguments.** Eight at most. What belongs together is a ``NamedTuple`` whose fields have a shape and a unit beside
  them: tables that all rows share, scratch of one row, results. They cost nothing at run time. Only arrays, numbers and
  such tuples go in; float64 and C order, so that a kernel is compiled once.
- **Sizes that LLVM must know** (rows of 48 numbers) are the length of a tuple, which is part of its type:
  :func:`~arcuate.numerics.qp_active_set.panels_of`, :func:`~arcuate.numerics.nnls.lanes_of`. One function serves every
  size, and each is kept on disk.
- **Lines.** :mod:`~arcuate.numerics.lanes` works on lines: the same number of eight rows side by side, number k of lane
  ``r`` at ``8 k + r`` of a flat array.
- **Compile time.** Counts and positions that start at a constant start at ``np.int64(0)``: numba compiles a function
  once more for a literal 0. ``fastmath`` only with flags that keep NaN and infinity.
- **Same bits.** A kernel runs its own copies of the functions it calls (:mod:`~arcuate.numerics.own_copies`): what it
  computes depends neither on the process that compiled it nor on the kernels used before. So what Python calls is a
  ``kernel``, not a plain ``njit``.
- **Types.** Kernels carry no annotations, since numba infers them; mypy lets them pass by one rule in pyproject.toml.
- **Without numba.** Kernels that use no lanes run as plain Python under ``NUMBA_DISABLE_JIT=1``, which a test does, and
  each function of lanes has a twin in numpy, a few lines long, in ``tests/numerics/test_lanes.py``.
"""

from arcuate.numerics.kernel_cache import settle_kernel_cache

settle_kernel_cache()
