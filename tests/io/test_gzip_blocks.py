"""Gzip in blocks: any program reads it, and neither threads nor cuts change a byte."""

from __future__ import annotations

import gzip
import itertools
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arcuate.io import gzip_blocks
from arcuate.io.gzip_blocks import (
    BLOCK,
    CorruptFileError,
    cut_blocks,
    read_gzip,
    read_head,
    read_index,
    read_plain,
    write_gzip,
)


def content(n_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 12, n_bytes, dtype=np.uint8).tobytes()


def pieces(data: bytes, size: int) -> list[memoryview]:
    return [memoryview(data)[i : i + size] for i in range(0, len(data), size)]


def read(path: Path, start: int, n_bytes: int) -> bytes:
    out = bytearray(n_bytes)

    def place(position: int, data: bytes | memoryview) -> None:
        out[position : position + len(data)] = data

    read_gzip(path, start, n_bytes, place)
    return bytes(out)


@pytest.mark.parametrize("n_bytes", [1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_any_program_reads_what_is_written(n_bytes: int, tmp_path: Path) -> None:
    data = content(n_bytes)
    write_gzip(tmp_path / "x.gz", b"head", pieces(data, 300_000), n_bytes)
    whole = (tmp_path / "x.gz").read_bytes()
    assert gzip.decompress(whole) == b"head" + data
    assert zlib.decompressobj(31).decompress(whole) == b"head" + data  # one member: also for readers of the first only
    if program := shutil.which("gzip"):
        assert subprocess.run([program, "-dc", tmp_path / "x.gz"], capture_output=True, check=True).stdout[4:] == data
    assert read(tmp_path / "x.gz", 0, n_bytes + 4) == b"head" + data
    assert read_head(tmp_path / "x.gz", 10) == (b"head" + data)[:10]


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_neither_threads_nor_cuts_change_a_byte(threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(5 * BLOCK + 99)
    write_gzip(tmp_path / "a.gz", b"head", [memoryview(data)], len(data))
    monkeypatch.setattr(gzip_blocks, "n_threads", lambda: threads)
    write_gzip(tmp_path / "b.gz", b"head", pieces(data, 700_001), len(data))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert read(tmp_path / "a.gz", 4, len(data)) == data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(0, 50), max_size=20), size=st.integers(1, 40))
def test_blocks_hold_the_same_bytes_and_all_but_the_last_are_full(sizes: list[int], size: int) -> None:
    data = content(sum(sizes))
    ends = np.cumsum([0, *sizes])
    cut = list(cut_blocks([memoryview(data)[a:b] for a, b in itertools.pairwise(ends)], size))
    assert b"".join(cut) == data
    assert all(len(block) == size for block in cut[:-1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(data=st.data())
def test_any_part_is_found_in_any_file(data: st.DataObject, tmp_path: Path) -> None:
    whole = content(2 * BLOCK + 12_345)
    if not (tmp_path / "ours.gz").exists():
        write_gzip(tmp_path / "ours.gz", whole[:352], [memoryview(whole)[352:]], len(whole) - 352)
        (tmp_path / "foreign.gz").write_bytes(gzip.compress(whole, 1))
    start = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.sampled_from([0, 352, 352 + BLOCK])))
    n_bytes = data.draw(st.integers(1, len(whole) - start))
    for name in ("ours.gz", "foreign.gz"):
        assert read(tmp_path / name, start, n_bytes) == whole[start : start + n_bytes]


def test_the_index_is_trusted_only_in_the_file_it_was_made_for(tmp_path: Path) -> None:
    data = content(BLOCK * 2)
    write_gzip(tmp_path / "x.gz", b"head", [memoryview(data)], len(data))
    whole = (tmp_path / "x.gz").read_bytes()
    with (tmp_path / "x.gz").open("rb") as file:
        assert read_index(file) is not None
    cases = {"longer": whole + gzip.compress(b"more"), "foreign": gzip.compress(data), "short": whole[:20], "none": b""}
    for name, raw in cases.items():
        (tmp_path / name).write_bytes(raw)
        with (tmp_path / name).open("rb") as file:
            assert read_index(file) is None, name
    assert read(tmp_path / "longer", 4, len(data) + 4) == data + b"more"


def test_a_wrong_index_does_not_hide_good_data(tmp_path: Path) -> None:
    data = content(BLOCK * 2)
    write_gzip(tmp_path / "x.gz", b"head", [memoryview(data)], len(data))
    raw = bytearray((tmp_path / "x.gz").read_bytes())
    raw[18] ^= 1  # the length of the head, kept in the extra field
    (tmp_path / "x.gz").write_bytes(raw)
    assert read(tmp_path / "x.gz", 4, len(data)) == data


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    data = content(BLOCK * 2)
    write_gzip(tmp_path / "x.gz", b"head", [memoryview(data)], len(data))
    raw = bytearray((tmp_path / "x.gz").read_bytes())
    raw[-6] ^= 1
    (tmp_path / "x.gz").write_bytes(raw)
    with pytest.raises(CorruptFileError):
        read(tmp_path / "x.gz", 4, len(data))


@pytest.mark.parametrize("reader", [read_gzip, read_plain])
def test_asking_for_more_than_there_is_is_noticed(reader: object, tmp_path: Path) -> None:
    write_gzip(tmp_path / "read_gzip", b"head", [memoryview(b"abc")], 3)
    (tmp_path / "read_plain").write_bytes(b"headabc")
    with pytest.raises(CorruptFileError):
        reader(tmp_path / reader.__name__, 4, 4, lambda position, data: None)  # type: ignore[operator, attr-defined]


def test_a_very_long_image_gets_larger_blocks_so_that_the_index_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_blocks, "BLOCK", 16)
    data = content(16 * 16_000 * 3 + 5)
    write_gzip(tmp_path / "x.gz", b"head", [memoryview(data)], len(data))
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == b"head" + data
    with (tmp_path / "x.gz").open("rb") as file:
        index = read_index(file)
    assert index is not None
    assert index.block_size == 64
    assert read(tmp_path / "x.gz", 4, len(data)) == data
