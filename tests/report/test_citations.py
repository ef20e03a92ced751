"""BibTeX that LaTeX can read, with the papers' addresses."""

from __future__ import annotations

import re

import pytest

from arcuate.report.citations import DOIS, bibtex_of, with_doi
from arcuate.report.methods import REFERENCES


def test_every_reference_becomes_one_whole_entry() -> None:
    text = bibtex_of(list(REFERENCES.values()))
    entries = text.split("\n\n")
    assert len(entries) == len(REFERENCES) + 1
    for entry in entries:
        assert entry.count("{") == entry.count("}")
        assert re.match(r"@(article|inproceedings|software)\{[\w]+,", entry)
    for entry in entries[1:]:
        for name in ("author", "title", "year", "pages"):
            assert f"  {name} = {{" in entry, entry
    keys = re.findall(r"@\w+\{(\w+),", text)
    assert len(keys) == len(set(keys))


def test_an_article_is_taken_apart_as_it_is_written() -> None:
    entry = bibtex_of([REFERENCES["recursive"]]).split("\n\n")[1]
    assert "author = {Tax, C. M. W. and Jeurissen, B. and Vos, S. B. and Viergever, M. A. and Leemans, A.}" in entry
    assert "title = {{Recursive calibration of the fiber response function for spherical deconvolution" in entry
    assert "journal = {NeuroImage}" in entry
    assert "volume = {86}" in entry
    assert "pages = {67--80}" in entry
    assert "doi = {10.1016/j.neuroimage.2013.07.067}" in entry


@pytest.mark.parametrize("key", ["tensor", "noddi", "msmtcsd", "hdbet", "tractseg", "wls", "mppca"])
def test_papers_with_an_address_have_it_in_the_text(key: str) -> None:
    assert re.search(r" https://doi\.org/10\.\d{4}/\S+$", with_doi(REFERENCES[key]))


def test_no_address_is_left_over() -> None:
    cited = " ".join(map(with_doi, REFERENCES.values()))
    assert all(doi in cited for doi in DOIS.values())
    assert with_doi(REFERENCES["dhollander"]) == REFERENCES["dhollander"]
