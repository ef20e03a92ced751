"""SHA-256 of arrays and of bytes, as a tree over fixed pieces so that all cores can work on it.

An array is read in Fortran order, the order of NIfTI files, and cut into leaves of 4 MiB; its digest is the SHA-256 of
its dtype and shape and of the digests of the leaves, so equal bytes of another dtype or shape differ, and the memory
layout does not matter. With the processor's SHA instructions this runs at 1 to 2 GB/s and core.

A large array that is asked for again is not hashed again if nothing changed: the CRC-32 of every MiB of its memory
(8 GB/s, where SHA-256 runs at 1.4) is compared with the ones taken before. A change of up to 32 neighbouring bits
cannot escape a CRC, any other does with a chance of 2⁻³² per MiB it touches; nothing is assumed about who holds the
array or may write to it. A run hashes its scan twice in each of six steps, so this is most of what its fingerprints
would cost (LOG.md).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib

from arcuate.numerics.threads import n_threads

LEAF = 4 << 20  # bytes; part of the definition of the digest
_CRC_PIECE = 1 << 20
_REMEMBER_FROM = 16 << 20  # smaller arrays are hashed each time
_N_REMEMBERED = 32

_remembered: dict[tuple[Any, ...], tuple[list[int], str]] = {}  # place and layout of an array -> its checksums, digest
_lock = threading.Lock()


def array_digest(array: np.ndarray) -> str:
    """Hex digest of dtype, shape and values; arrays of Python objects have none (TypeError)."""
    if array.dtype.hasobject:
        raise TypeError(f"an array of Python objects ({array.dtype}) has no digest")
    if array.nbytes < _REMEMBER_FROM or not (array.flags.c_contiguous or array.flags.f_contiguous):
        return _hash_array(array)
    layout = (array.ctypes.data, array.shape, array.strides, array.dtype.str)
    checks = _checksums(array)
    with _lock:
        known = _remembered.get(layout)
    if known is not None and known[0] == checks:
        return known[1]
    digest = _hash_array(array)
    with _lock:
        _remembered[layout] = (checks, digest)
        if len(_remembered) > _N_REMEMBERED:
            del _remembered[next(iter(_remembered))]
    return digest


def file_digest(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return _tree(b"bytes", iter(lambda: file.read(LEAF), b""), os.fstat(file.fileno()).st_size)


def _checksums(array: np.ndarray) -> list[int]:
    memory = array.reshape(-1, order="F" if array.flags.f_contiguous else "C").view(np.uint8)
    return [isal_zlib.crc32(memory[i : i + _CRC_PIECE]) for i in range(0, memory.size, _CRC_PIECE)]


def _hash_array(array: np.ndarray) -> str:
    dtype = repr(array.dtype.descr) if array.dtype.fields else array.dtype.str
    header = f"array {dtype} {array.shape}".encode()
    return _tree(header, _leaves(_fortran_pieces(array)), array.nbytes)


def _tree(header: bytes, leaves: Iterable[bytes | np.ndarray], n_bytes: int) -> str:
    root = hashlib.sha256(header + b"\0")
    threads = n_threads()
    if n_bytes <= 2 * LEAF or threads == 1:
        for leaf in leaves:
            root.update(_sha256(leaf))
        return root.hexdigest()
    with ThreadPoolExecutor(threads, thread_name_prefix="arcuate-digest") as pool:
        pending: list = []
        for leaf in leaves:  # at most a few leaves in memory, in order
            pending.append(pool.submit(_sha256, leaf))
            if len(pending) > 4 * threads:
                root.update(pending.pop(0).result())
        for future in pending:
            root.update(future.result())
    return root.hexdigest()


def _sha256(data: bytes | np.ndarray) -> bytes:
    return hashlib.sha256(data.data if isinstance(data, np.ndarray) else data).digest()


def _fortran_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """The bytes of ``array`` in Fortran order, in pieces; without a copy where memory has that order already."""
    if array.flags.f_contiguous:
        if array.size:
            yield array.reshape(-1, order="F").view(np.uint8)
        return
    reverse = array.T
    per_row = max(1, reverse[0].nbytes)
    step = max(1, (64 << 20) // per_row)
    for first in range(0, len(reverse), step):
        source = reverse[first : first + step]
        piece: np.ndarray = np.empty(source.shape, source.dtype)
        if source.ndim < 3:
            piece[...] = source
        else:  # line by line of the last but one axis: what is transposed at a time stays in the processor's cache
            for line in range(source.shape[-2]):
                piece[..., line, :] = source[..., line, :]
        yield piece.reshape(-1).view(np.uint8)


def _leaves(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    carried: np.ndarray = np.empty(0, np.uint8)
    for piece in pieces:
        start = 0
        if carried.size:
            start = min(LEAF - carried.size, piece.size)
            carried = np.concatenate([carried, piece[:start]])
            if carried.size < LEAF:
                continue
            yield carried
        whole = start + (piece.size - start) // LEAF * LEAF
        for first in range(start, whole, LEAF):
            yield piece[first : first + LEAF]
        carried = piece[whole:]
    if carried.size:
        yield carried
