"""Downloads against a real server on this machine that cuts off, resumes, serves wrong bytes, or knows nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from arcuate.errors import InputError
from arcuate.fetch import remote, weights
from arcuate.fetch.public_scans import SCANS, scans_folder
from arcuate.fetch.remote import RemoteFile, RemoteSet, download, is_intact
from arcuate.numerics import user_folders

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``cut_after`` breaks a connection off, ``ranges`` says whether it can resume."""

    daemon_threads = True
    content = CONTENT
    cuts: list[int]
    ranges = True
    requests: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if self.path == "/missing":
            self.send_error(404)
            return
        content = self.server.content
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start:stop])
        self.close_connection = True

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.cuts, running.requests = [], []
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _file(server: Server, path: str = "/scan.nii.gz", digest: str | None = SHA) -> RemoteFile:
    return RemoteFile("scan.nii.gz", f"http://127.0.0.1:{server.server_address[1]}{path}", digest)


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.endswith(".lock")}


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    path = download(_file(server), tmp_path, lambda done, total: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    download(_file(server), tmp_path)
    assert len(server.requests) == 1
    assert _names(tmp_path) == {"scan.nii.gz"}


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 700_000]
    assert download(_file(server), tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-", "bytes=1700000-"]


def test_a_server_that_cannot_resume_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [1_000_000]
    assert download(_file(server), tmp_path).read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_keeps_what_came_and_says_so(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] + [0] * 10
    with pytest.raises(InputError, match=r"broke off after 0\.1 MB.*start the same command again"):
        download(_file(server), tmp_path)
    assert _names(tmp_path) == {"scan.nii.gz.part"}
    server.cuts = []
    assert download(_file(server), tmp_path).read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(InputError, match=r"sha256:.*expected sha256:.*removed"):
        download(_file(server), tmp_path)
    assert _names(tmp_path) == set()


def test_a_stale_part_of_another_file_does_not_survive_the_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz.part").write_bytes(b"x" * 500_000)
    with pytest.raises(InputError, match="removed"):
        download(_file(server), tmp_path)
    assert download(_file(server), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_started_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz.part").write_bytes(b"x" * (len(CONTENT) + 10))
    assert download(_file(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz.part").write_bytes(CONTENT)
    assert download(_file(server), tmp_path).read_bytes() == CONTENT


def test_an_empty_file_left_by_another_tool_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    assert download(_file(server), tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_there_with_another_checksum_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(CONTENT[:-1] + b"?")
    path = download(_file(server), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_file_that_is_there_stays_when_a_better_one_cannot_be_had(server: Server, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"of the user's own")
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match="expected sha256"):
        download(_file(server), tmp_path)
    assert (tmp_path / "scan.nii.gz").read_bytes() == b"of the user's own"


def test_fetched_files_lie_where_the_system_keeps_caches_or_where_they_lay_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    library = tmp_path / "Library"
    monkeypatch.setattr(user_folders.platformdirs, "user_cache_path", lambda name, appauthor: library / name)
    assert remote.cache_home() == tmp_path / "Library" / "arcuate"
    (tmp_path / ".cache" / "arcuate").mkdir(parents=True)
    assert remote.cache_home() == tmp_path / ".cache" / "arcuate"


def test_without_a_published_checksum_the_length_is_checked(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000] * 9
    assert download(_file(server, digest=None), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/missing", "unreachable"])
def test_an_address_without_an_answer_says_where_to_copy_the_file(server: Server, tmp_path: Path, path: str) -> None:
    file = RemoteFile("w.npz", "http://127.0.0.1:1/w.npz") if path == "unreachable" else _file(server, path)
    with pytest.raises(InputError, match=rf"could not fetch .*copy it to {tmp_path}"):
        download(file, tmp_path)


def test_intact_means_the_published_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    assert is_intact(RemoteFile("a", "", SHA), path)
    path.write_bytes(CONTENT[1:])
    assert not is_intact(RemoteFile("a", "", SHA), path)


def test_missing_weights_name_the_command_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCUATE_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRACTSEG_WEIGHTS_DIR", raising=False)
    with pytest.raises(InputError, match=rf"arcuate fetch tractseg-tract-segmentation; or copy them to {tmp_path}/w"):
        weights.tractseg_weights("tract_segmentation")


def test_weights_that_tractseg_fetched_itself_are_found_and_its_empty_leftovers_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCUATE_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.setenv("TRACTSEG_WEIGHTS_DIR", str(tmp_path / "theirs"))
    theirs = tmp_path / "theirs" / "pretrained_weights_tract_segmentation_v3.npz"
    theirs.parent.mkdir()
    theirs.touch()
    with pytest.raises(InputError, match="not on this machine"):
        weights.tractseg_weights("tract_segmentation")
    theirs.write_bytes(b"w")
    assert weights.tractseg_weights("tract_segmentation") == [theirs]


def test_the_command_fetches_a_whole_set(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arcuate.commands.fetch import fetch

    known = RemoteSet("tiny", (_file(server),), "a scan", "CC0", "nobody 2026", 3)
    monkeypatch.setitem(SCANS, "tiny", known)
    result = CliRunner().invoke(fetch, ["tiny", "--to", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tiny" / "scan.nii.gz").read_bytes() == CONTENT
    assert "CC0" in result.output
    assert "nobody 2026" in result.output


def test_the_command_lists_what_there_is() -> None:
    from arcuate.commands.fetch import fetch

    output = CliRunner().invoke(fetch, []).output
    for name in ("stanford_hardi", "sherbrooke_3shell", "tractseg-tract-segmentation", "tractseg-tom", "hd-bet"):
        assert name in output


def test_scans_that_dipy_fetched_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCUATE_DATA", raising=False)
    monkeypatch.setenv("DIPY_HOME", str(tmp_path))
    assert scans_folder("stanford_hardi") != tmp_path / "stanford_hardi"
    (tmp_path / "stanford_hardi").mkdir()
    for file in SCANS["stanford_hardi"].files:
        (tmp_path / "stanford_hardi" / file.name).touch()
    assert scans_folder("stanford_hardi") == tmp_path / "stanford_hardi"
