"""Gzip written and read by several threads.

A file is one ordinary gzip member, readable by every program. Its deflate stream is cut into blocks that do not refer
to each other, and the compressed length of each stands in the header's "extra" field (RFC 1952, 2.3.1.1), which other
programs skip: so blocks are compressed in parallel, decompressed in parallel, and found without reading what lies
before them. The same content gives the same file (no time stamp, no file name, cuts that do not depend on the threads)
as far as ISA-L does: in one of some ten thousand files it took another distance to the same zeros (LOG.md).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from arcuate.numerics.threads import in_order, n_threads

MAGIC = b"\x1f\x8b"
BLOCK = 1 << 20  # bytes before compression
LEVEL = 1  # isal: as small as zlib's level 1 (nibabel's default) on images; 0 is 40 % larger, 3 twice as slow
CHUNK = 1 << 22  # bytes taken at once from files without an index
_INPUT = 1 << 18  # compressed bytes read at once from them
_MAX_BLOCKS = 16_000  # the extra field holds 65535 bytes
_FIELD_ID = b"aR"
_FIELD = struct.Struct("<HQI")  # version, bytes before the first full block, bytes per block

_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # the stubs take it for an instance

Sink = Callable[[int, bytes | memoryview], None]
"""Takes the position of some bytes, counted from the start of the range asked for, and the bytes."""


class CorruptFileError(Exception):
    """The compressed stream ends early or contradicts itself."""


@dataclass(frozen=True)
class BlockIndex:
    """Where the blocks of a file made by :func:`write_gzip` lie."""

    head_size: int  # bytes (uncompressed) of block 0
    block_size: int  # bytes (uncompressed) of every later block but the last
    offsets: tuple[int, ...]  # where each compressed block starts in the file, and the end of the last

    def blocks(self, start: int, stop: int) -> range:
        """Numbers of the blocks that hold the uncompressed bytes from ``start`` to ``stop``."""
        return range(self._block_of(start), min(self._block_of(stop - 1), len(self.offsets) - 2) + 1)

    def start_of(self, block: int) -> int:
        """Position of the first uncompressed byte of ``block``."""
        return 0 if block == 0 else self.head_size + (block - 1) * self.block_size

    def _block_of(self, position: int) -> int:
        return 0 if position < self.head_size else 1 + (position - self.head_size) // self.block_size


def write_gzip(path: Path, head: bytes, pieces: Iterable[memoryview], n_bytes: int) -> None:
    """Write ``head`` and then ``pieces`` (of ``n_bytes`` in all) as one gzip member."""
    block_size = BLOCK * max(1, -(-n_bytes // (BLOCK * (_MAX_BLOCKS - 2))))
    n_blocks = 1 + -(-n_bytes // block_size)
    field = _FIELD.pack(1, len(head), block_size)
    extra_size = 4 + len(field) + 4 * n_blocks
    lengths: list[int] = []
    crc, total = 0, 0
    with path.open("wb") as file:
        file.write(b"\0" * (12 + extra_size))
        blocks = _chain(memoryview(head), cut_blocks(pieces, block_size))
        for data, block_crc, size in in_order(_compress, blocks):
            file.write(data)
            lengths.append(len(data))
            crc = isal_zlib.crc32_combine(crc, block_crc, size)
            total += size
        if total != len(head) + n_bytes:
            raise ValueError(f"told to expect {len(head) + n_bytes} bytes, given {total}")
        file.write(b"\x03\x00" + struct.pack("<II", crc, total & 0xFFFFFFFF))  # an empty last block, then the trailer
        file.seek(0)
        # method 8, flag 4 (an extra field), time 0, no hint on the level, system unknown
        file.write(MAGIC + b"\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", extra_size))
        file.write(_FIELD_ID + struct.pack("<H", extra_size - 4) + field + struct.pack(f"<{n_blocks}I", *lengths))


def cut_blocks(pieces: Iterable[memoryview], size: int) -> Iterator[memoryview]:
    """The same bytes in blocks of ``size``; copies only where a block spans two pieces."""
    carry = bytearray()
    for whole in pieces:
        piece = whole
        if carry:
            need = size - len(carry)
            carry += piece[:need]
            piece = piece[need:]
            if len(carry) < size:
                continue
            yield memoryview(carry)
            carry = bytearray()
        n_full = len(piece) // size * size
        for start in range(0, n_full, size):
            yield piece[start : start + size]
        carry = bytearray(piece[n_full:])
    if carry:
        yield memoryview(carry)


def read_index(file: BinaryIO) -> BlockIndex | None:
    """Index of a file made by :func:`write_gzip`; None for any other file, and if it does not fit the file."""
    file.seek(0)
    start = file.read(12)
    if len(start) < 12 or start[:4] != MAGIC + b"\x08\x04":
        return None
    extra = file.read(struct.unpack("<H", start[10:])[0])
    first = 4 + _FIELD.size
    if extra[:2] != _FIELD_ID or len(extra) < first + 4 or (len(extra) - first) % 4:
        return None
    version, head_size, block_size = _FIELD.unpack(extra[4:first])
    lengths = struct.unpack(f"<{(len(extra) - first) // 4}I", extra[first:])
    offsets = [12 + len(extra)]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    # 2 bytes of the last empty block, 8 of the trailer; a file that was cut or grew is read as a stream
    if version != 1 or block_size <= 0 or offsets[-1] + 10 != os.fstat(file.fileno()).st_size:
        return None
    return BlockIndex(head_size, block_size, tuple(offsets))


def read_gzip(path: Path, start: int, n_bytes: int, sink: Sink) -> None:
    """Give the uncompressed bytes from ``start`` on to ``sink``, in parts, from several threads, in any order.

    When the range reaches the end of the stream, the checksum of the whole is verified if all was read.
    """
    with path.open("rb") as file:
        index = read_index(file)
        if index is not None:
            try:
                _read_blocks(file, index, range(start, start + n_bytes), sink)
                return
            except CorruptFileError:
                pass  # the index itself may be what is wrong
        _read_stream(file, start, n_bytes, sink)


def read_plain(path: Path, start: int, n_bytes: int, sink: Sink) -> None:
    """As :func:`read_gzip`, from an uncompressed file."""
    with path.open("rb") as file:

        def read(position: int) -> None:
            size = min(CHUNK, n_bytes - position)
            data = _read_at(file, start + position, size)
            if len(data) < size:
                raise CorruptFileError("the file ends early")
            sink(position, data)

        for _ in in_order(read, range(0, n_bytes, CHUNK)):
            pass


def read_head(path: Path, n_bytes: int) -> bytes:
    """The first bytes, uncompressed if the file is gzip; fewer if there are no more."""
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start != MAGIC:
            return file.read(n_bytes)
        out, data = b"", b""
        while len(out) < n_bytes:
            data = data or file.read(1 << 16)
            if not data.rstrip(b"\0"):  # the end, or zeros that fill a tape block
                break
            stream = isal_zlib.decompressobj(31)
            while data and not stream.eof and len(out) < n_bytes:
                try:
                    out += stream.decompress(data, n_bytes - len(out))
                except _IsalError as error:
                    raise CorruptFileError(str(error)) from error
                data = stream.unused_data if stream.eof else file.read(1 << 16)
        return out


def is_gzip(path: Path) -> bool:
    """Whether the file starts as gzip does, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == MAGIC


def _read_blocks(file: BinaryIO, index: BlockIndex, wanted: range, sink: Sink) -> None:
    blocks = index.blocks(wanted.start, wanted.stop)

    def read(block: int) -> tuple[int, int]:
        where = index.offsets[block]
        data = _decompress(_read_at(file, where, index.offsets[block + 1] - where))
        first, following = index.start_of(block), index.start_of(block + 1)
        low, high = max(wanted.start, first), min(wanted.stop, first + len(data))
        if first + len(data) > following or high < min(wanted.stop, following):
            raise CorruptFileError("the compressed stream ends early")
        if low < high:
            sink(low - wanted.start, memoryview(data)[low - first : high - first])
        return isal_zlib.crc32(data), len(data)

    crc, end = 0, index.start_of(blocks.start)
    if blocks.start == 1:  # the head is small, and with it the checksum is that of the whole
        crc, end = read(0)
    for block_crc, size in in_order(read, blocks):
        crc = isal_zlib.crc32_combine(crc, block_crc, size)
        end += size
    if end < wanted.stop:
        raise CorruptFileError("the compressed stream ends early")
    if blocks.start <= 1 and blocks.stop == len(index.offsets) - 1:
        trailer = struct.unpack("<II", _read_at(file, index.offsets[-1] + 2, 8))
        if trailer != (crc, end & 0xFFFFFFFF):
            raise CorruptFileError("the checksum does not match")


def _read_stream(file: BinaryIO, start: int, n_bytes: int, sink: Sink) -> None:
    """Any gzip file from its beginning on; one thread decompresses while this one takes what is there.

    One more piece is decompressed than was asked for, so that a range that reaches the end of a stream meets its
    checksum.
    """
    file.seek(0)
    full = memoryview(bytearray(min(CHUNK, n_bytes)))  # what the sink takes at once, whatever pieces come
    position, filled, given = 0, 0, 0
    for chunk in _one_ahead(_decompressed(file)):
        if given == n_bytes:
            break
        rest = memoryview(chunk)[max(0, start - position) :]
        position += len(chunk)
        while rest and given < n_bytes:
            size = min(len(rest), len(full) - filled, n_bytes - given - filled)
            full[filled : filled + size] = rest[:size]
            filled, rest = filled + size, rest[size:]
            if filled == len(full) or given + filled == n_bytes:
                sink(given, full[:filled])
                given, filled = given + filled, 0
    if given < n_bytes:
        raise CorruptFileError("the compressed stream ends early")


def _one_ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, each made by another thread while the one before it is used."""
    if n_threads() == 1:
        yield from chunks
        return
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(next, chunks, None)
        while (chunk := ahead.result()) is not None:
            ahead = pool.submit(next, chunks, None)
            yield chunk


def _decompressed(file: BinaryIO) -> Iterator[bytes]:
    """The content in pieces, one gzip member after the other; what follows the last one is left out, as gzip does."""
    data = file.read(_INPUT)
    while data[:2] == MAGIC:
        stream = isal_zlib.decompressobj(31)
        while not stream.eof:
            data = data or file.read(_INPUT)
            if not data:
                raise CorruptFileError("the compressed stream ends early")
            try:
                yield stream.decompress(data, CHUNK)
            except _IsalError as error:
                raise CorruptFileError(str(error)) from error
            data = stream.unconsumed_tail
        data = stream.unused_data
        while not (data := data.lstrip(b"\0")) and (more := file.read(_INPUT)):  # zeros that fill a tape block
            data = more
        data += file.read(1) if len(data) == 1 else b""


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Read without moving the file's own position, which the threads share."""
    if hasattr(os, "pread"):
        parts = []
        while size > 0 and (part := os.pread(file.fileno(), size, position)):
            parts.append(part)
            position, size = position + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    with Path(file.name).open("rb") as own:  # Windows has no pread
        own.seek(position)
        return own.read(size)


def _compress(block: memoryview) -> tuple[bytes, int, int]:
    stream = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15)
    data = stream.compress(block) + stream.flush(isal_zlib.Z_FULL_FLUSH)  # ends on a byte, refers to nothing before
    return data, isal_zlib.crc32(block), len(block)


def _decompress(data: bytes) -> bytes:
    try:
        return isal_zlib.decompressobj(-15).decompress(data)
    except _IsalError as error:
        raise CorruptFileError(str(error)) from error


def _chain(first: memoryview, rest: Iterator[memoryview]) -> Iterator[memoryview]:
    yield first
    yield from rest
