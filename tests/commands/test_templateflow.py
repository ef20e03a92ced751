"""Files of TemplateFlow from a real server on this machine, laid out as TemplateFlow lays out its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.fetch import templateflow
from arcuate.fetch.templateflow import fetch_template, is_template_name, table_name, template_path
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource

SPACE = "tpl-MNI152NLin2009cAsym"
ATLAS = f"{SPACE}_res-01_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
TABLE = f"{SPACE}_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.tsv"
T1 = f"{SPACE}_res-01_T1w.nii.gz"


class Server(ThreadingHTTPServer):
    """S3 and the repositories of pointers at once; ``wrong_key`` publishes another MD5."""

    daemon_threads = True
    files: dict[str, bytes]
    wrong_key = False
    absent = 404
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        where, _, rest = self.path.removeprefix("/").partition("/")
        name = rest.replace("/master/", "/")
        content = self.server.files.get(name)
        if content is None:
            self.send_error(self.server.absent)
            return
        if where == "pointers" and name.endswith(".gz"):
            md5 = "0" * 32 if self.server.wrong_key else hashlib.md5(content).hexdigest()
            key = f"MD5E-s{len(content)}--{md5}.nii.gz"
            content = f"../.git/annex/objects/1x/Z9/{key}/{key}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    labels = np.zeros((6, 6, 6), np.int16)
    labels[1:3], labels[3:5] = 1, 2
    path = tmp_path / "atlas.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(labels, np.diag([2.0, 2, 2, 1])), path)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.files = {
            f"{SPACE}/{ATLAS}": path.read_bytes(), f"{SPACE}/{T1}": path.read_bytes(),
            f"{SPACE}/{TABLE}": b"index\tname\n1\tLeft visual\n2\tRight visual\n",
        }  # fmt: skip
        address = f"http://127.0.0.1:{running.server_address[1]}"
        monkeypatch.setattr(templateflow, "FILES", f"{address}/files")
        monkeypatch.setattr(templateflow, "POINTERS", f"{address}/pointers")
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "home"))
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_an_atlas_comes_with_its_names_and_is_then_found_by_its_name(server: Server, tmp_path: Path) -> None:
    path = fetch_template(ATLAS)
    assert path == tmp_path / "home" / SPACE / ATLAS
    assert path.read_bytes() == server.files[f"{SPACE}/{ATLAS}"]
    assert (path.parent / TABLE).read_bytes() == server.files[f"{SPACE}/{TABLE}"]
    assert template_path(ATLAS) == path
    n_asked = len(server.asked)
    assert fetch_template(ATLAS) == path
    assert len(server.asked) == n_asked, "what is here is not asked for again"


def test_bytes_that_are_not_those_of_the_published_key_are_refused(server: Server) -> None:
    server.wrong_key = True
    with pytest.raises(InputError, match=r"md5:.*expected md5:0{32}.*removed"):
        fetch_template(T1)


def test_where_the_keys_cannot_be_reached_the_file_still_comes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templateflow, "POINTERS", "http://127.0.0.1:1")
    assert fetch_template(T1).read_bytes() == server.files[f"{SPACE}/{T1}"]


def test_an_empty_file_that_templateflows_client_left_is_none(server: Server, tmp_path: Path) -> None:
    stub = tmp_path / "home" / SPACE / T1
    stub.parent.mkdir(parents=True)
    stub.touch()
    with pytest.raises(InputError, match=f"Fetch it with: arcuate fetch {T1}"):
        template_path(T1)
    assert fetch_template(T1).stat().st_size > 0


def test_an_atlas_without_a_table_comes_alone(server: Server) -> None:
    del server.files[f"{SPACE}/{TABLE}"]
    assert fetch_template(ATLAS).is_file()


@pytest.mark.parametrize("answer", [403, 404])
def test_a_file_that_templateflow_does_not_have_is_one_sentence(server: Server, answer: int) -> None:
    server.absent = answer
    with pytest.raises(InputError, match=rf"TemplateFlow has no file {SPACE}_res-09_T1w\.nii\.gz\. Its files are"):
        fetch_template(f"{SPACE}_res-09_T1w.nii.gz")


def test_without_network_one_sentence_says_where_to_copy_the_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arcuate: Callable
) -> None:
    monkeypatch.setattr(templateflow, "FILES", "http://127.0.0.1:1")
    monkeypatch.setattr(templateflow, "POINTERS", "http://127.0.0.1:1")
    done = arcuate("fetch", ATLAS)
    assert done.code == 2
    assert "Traceback" not in done.err
    said = "".join(done.err.split())  # lines are folded
    assert "couldnotfetchhttp" in said
    assert f"copyitto{tmp_path}/home/{SPACE}/{ATLAS}" in said


def test_names_are_told_from_paths_and_tables_are_one_for_all_resolutions() -> None:
    assert is_template_name(ATLAS)
    assert is_template_name("tpl-UKBMNI+x_T1w.nii.gz")
    for other in ("atlas.nii.gz", f"folder/{ATLAS}", "tpl-X", "tpl-X_../y_dseg.nii.gz", "tpl-X_dseg"):
        assert not is_template_name(other)
    assert table_name(ATLAS) == TABLE
    assert table_name(T1) is None
    with pytest.raises(InputError, match=r"found the name 'tpl-X/\.\./y'; expected one of TemplateFlow"):
        fetch_template("tpl-X/../y")


def test_regions_takes_the_name_of_an_atlas_and_never_fetches(
    server: Server, tmp_path: Path, arcuate: Callable
) -> None:
    fa = tmp_path / "fa.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(np.full((6, 6, 6), 0.5, np.float32), np.diag([2.0, 2, 2, 1])), fa)
    words = ("regions", fa, "--labels", ATLAS, "--out", tmp_path / "table.tsv")
    before = arcuate(*words)
    assert before.code == 2
    assert f"arcuate fetch {ATLAS}" in before.err
    assert not server.asked
    assert arcuate("fetch", ATLAS).code == 0
    done = arcuate(*words)
    assert done.code == 0, done.err
    assert "Left visual" in (tmp_path / "table.tsv").read_text()
