"""Text files of numbers as people have them: any separator, any editor's encoding, NaN as Windows prints it."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from arcuate.errors import InputError
from arcuate.io.names import why_absent

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_WINDOWS_NAN = re.compile(r"([+-]?)1\.#(?:IND|QNAN|SNAN|NAN)\d*|([+-]?)nan\((?:ind|snan|qnan)\)", re.IGNORECASE)
_WINDOWS_INF = re.compile(r"([+-]?)1\.#INF\d*", re.IGNORECASE)
_DECIMAL = re.compile(r"[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?", re.ASCII)  # with a comma for its point
_MINUS = str.maketrans("\u2212\u2013", "--")  # as word processors and journals print it
_PADDING = "\0\x1a \t\r\n"  # what DOS and programs that write fixed lengths leave at the end of a file
_MAX_BYTES = 1 << 26  # no gradient file is that long; an image given by mistake is


def read_number_rows(path: Path, what: str, *, is_unit: bool = False) -> list[list[float]]:
    """Numbers of a text file, line by line, blank lines and ``#`` comments left out.

    Parameters
    ----------
    what : what the file should hold, for messages
    is_unit : whether the numbers are components of vectors no longer than about 1: then commas between digits can
        be told to be decimal points
    """
    text = read_text(path, what).rstrip(_PADDING).translate(_MINUS)
    lines = re.split(r"\r\n|\n|\r", text)
    lines = [_WINDOWS_INF.sub(r"\1inf", _WINDOWS_NAN.sub("nan", line)) for line in lines]  # their '#' is no comment
    content = [line.split("#", 1)[0] for line in lines]
    if _has_commas_of_two_kinds(content):
        if not _are_decimal_points(content, is_unit):
            raise InputError(
                f"{path} has both separators and commas between digits: the commas may be decimal points or "
                "separators. Write numbers with points, separated by spaces."
            )
        content = [re.sub(r"(?<=\d),(?=\d)", ".", line) for line in content]
    rows = []
    for number, line in enumerate(content, start=1):
        words = line.replace(",", " ").replace(";", " ").split()
        for word in words:
            if not _NUMBER.fullmatch(word):
                raise InputError(
                    f"line {number} of {path} holds {word[:40]!r}; expected numbers only ({what}). Take headings and "
                    "brackets out, or begin their lines with #."
                )
        if words:
            rows.append([float(word) for word in words])
    if not rows:
        raise InputError(f"{path} holds no numbers; expected {what}. Check that the file was written completely.")
    return rows


def _has_commas_of_two_kinds(lines: list[str]) -> bool:
    """Whether commas stand between digits while blanks or semicolons separate numbers."""
    text = "\n".join(line.strip() for line in lines)
    if not re.search(r"\d,\d", text):
        return False
    if re.search(r"[^\s,;][ \t]+[^\s,;]", text):
        return True
    pieces = [piece for piece in re.split(r"[;\n]", text) if piece.strip()]
    return ";" in text and all(_DECIMAL.fullmatch(piece.strip()) for piece in pieces)  # no matrix like 1,0,0;0,1,0


def _are_decimal_points(lines: list[str], is_unit: bool) -> bool:
    """Whether commas between digits can be nothing but decimal points: as separators they would leave no numbers.

    A digit group after a comma that starts with a needless 0, or is longer than any b-value, is no number of its own;
    in unit vectors no group of three digits is, and with points all of them must be at most about 1.
    """
    words = re.split(r"[\s;]+", "\n".join(lines).strip())
    if not all(_DECIMAL.fullmatch(word) for word in words if _NUMBER.fullmatch(word) is None):
        return False
    fractions = [match.group(1) for word in words if (match := re.search(r",(\d+)", word))]
    if any(re.match(r"0\d", digits) or len(digits) > 6 for digits in fractions):
        return True
    is_small = is_unit and all(abs(float(word.replace(",", "."))) <= 1.1 for word in words if word)
    return is_small and any(len(digits) >= 3 for digits in fractions)


def read_text(path: Path, what: str) -> str:
    """Text of a file that should hold ``what``; UTF-8, or UTF-16 where it begins so."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a text file of {what}.")
    if not path.is_file():
        raise InputError(f"{path} {why_absent(path, f'a text file of {what}')}")
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; expected a text file of {what}.") from error
    encoding = "utf-8-sig"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # what Windows' PowerShell writes with ">"
        encoding = "utf-16"
    try:
        if len(raw) > _MAX_BYTES:
            raise UnicodeError
        return raw.decode(encoding)
    except UnicodeError as error:
        raise InputError(f"{path} is no text in UTF-8; expected {what} as plain text. Save it so.") from error
