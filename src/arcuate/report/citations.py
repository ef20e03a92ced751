"""BibTeX of the papers that a methods paragraph cites, made from their references as they are written there."""

from __future__ import annotations

import re
from collections import Counter

from arcuate._version import __version__

# by the first author and the year; papers of conferences without one stay without
DOIS = {
    "Veraart 2016": "10.1016/j.neuroimage.2016.08.016",
    "Cordero-Grande 2019": "10.1016/j.neuroimage.2019.06.039",
    "Koay 2006": "10.1016/j.jmr.2006.01.016",
    "Otsu 1979": "10.1109/TSMC.1979.4310076",
    "Isensee 2019": "10.1002/hbm.24750",
    "Basser 1994": "10.1016/S0006-3495(94)80775-1",
    "Veraart 2013": "10.1016/j.neuroimage.2013.05.028",
    "Zhang 2012": "10.1016/j.neuroimage.2012.03.072",
    "Daducci 2015": "10.1016/j.neuroimage.2014.10.026",
    "Tournier 2007": "10.1016/j.neuroimage.2007.02.016",
    "Jeurissen 2014": "10.1016/j.neuroimage.2014.07.061",
    "Tournier 2013": "10.1002/nbm.3017",
    "Tax 2014": "10.1016/j.neuroimage.2013.07.067",
    "Wasserthal 2018": "10.1016/j.neuroimage.2018.07.070",
}
_JOURNAL = re.compile(r"^(?P<journal>.+?) (?P<year>\d{4});(?P<volume>\d+):(?P<pages>[\d-]+)\.$")
_MEETING = re.compile(r"^(?P<journal>.+?) (?P<year>\d{4})[:;](?P<pages>[\d:-]+)\.$")


def bibtex_of(references: list[str]) -> str:
    """An entry for arcuate itself and one for each reference, as it stands in the text.

    Parameters
    ----------
    references : "Authors. Title. Journal year;volume:pages."
    """
    software = (
        "@software{arcuate,\n  author = {{the arcuate developers}},\n"
        "  title = {arcuate: diffusion MRI, from the scan to maps of microstructure and fibre orientation},\n"
        f"  version = {{{__version__}}}\n}}"
    )
    seen: Counter[str] = Counter()
    entries = [software]
    for reference in references:
        key, entry = _entry(reference)
        seen[key] += 1
        letter = "abcdefgh"[seen[key] - 1] if seen[key] > 1 else ""
        entries.append(entry.replace(f"{{{key},", f"{{{key}{letter},", 1))
    return "\n\n".join(entries)


def with_doi(reference: str) -> str:
    """A reference with the address of its paper, where it has one."""
    doi = _doi_of(reference)
    return f"{reference} https://doi.org/{doi}" if doi else reference


def _doi_of(reference: str) -> str | None:
    year = re.search(r" (\d{4})[:;]", reference)
    return DOIS.get(f"{reference.split()[0]} {year[1]}") if year else None


def _entry(reference: str) -> tuple[str, str]:
    """Key (first author and year) and text of one entry."""
    authors, title, source = _parts(reference)
    found = _JOURNAL.match(source) or _MEETING.match(source)
    facts = found.groupdict() if found else {"journal": source}
    is_article = "volume" in facts
    fields = {
        "author": " and ".join("others" if a == "et al" else _name(a) for a in authors.split(", ")),
        "title": f"{{{title}}}",
        "journal" if is_article else "booktitle": facts["journal"],
        "year": facts.get("year"),
        "volume": facts.get("volume"),
        "pages": facts.get("pages", "").replace("-", "--"),
        "doi": _doi_of(reference),
    }
    key = re.sub(r"\W", "", authors.split()[0]) + str(facts.get("year", ""))
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return key, f"@{'article' if is_article else 'inproceedings'}{{{key},\n" + ",\n".join(lines) + "\n}"


def _parts(reference: str) -> tuple[str, str, str]:
    """Authors, title, and where it was published."""
    authors, rest = reference.split(". ", 1)
    title, source = rest.split(". ", 1)
    return authors, title, source


def _name(author: str) -> str:
    """``Tax CMW`` as BibTeX wants it."""
    family, _, initials = author.rpartition(" ")
    return f"{family}, {' '.join(f'{letter}.' for letter in initials)}" if family else author
