"""Reads the number or the letter that a text answers with, in two readings each; pure functions.

Strict takes a marked answer alone (``#### 18``, ``\\boxed{18}``, "the answer is 18"); flexible falls back on the last
number, or the last letter that stands as a choice. Values are compared, never substrings: gold 8 does not accept 18.
"""

from __future__ import annotations

import re
from fractions import Fraction

_LONGEST = 200  # a run of more digits is a loop of the model, no number

_MARKS = (
    r"####",
    r"\\boxed\s*(?=\{)",
    r"\b(?:answer|choice|option)\b(?:\s+to\s+[^.\n:]{1,80}?)?\s*(?:is|was|=|:|would\s+be|should\s+be)(?!\s+not\b)",
)
# What follows a mark, up to its line's end; looked at, not consumed, since a second mark may stand there.
_MARKED = re.compile(rf"(?:{'|'.join(_MARKS)})[\s:]*(?=(?P<rest>[^\n]*))", re.IGNORECASE)
_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w)\]}%.])-)?                     # a sign, but not the minus of "10-3"
    (?:[$€£]\s?(?P<inner>-)?)?
    (?<![A-Za-z0-9_])                               # not the 2 of "H2O"
    (?P<value>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,2}(?!\w))?|\.\d+)
    (?:/(?P<under>\d+)(?![\d/]|\.\d))?
    """,
    re.VERBOSE | re.ASCII,
)
_CLEAN = (
    (re.compile("\u2212"), "-"),
    (re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\\;|[\u00a0\u202f\u2009])(?=\d)"), ","),
    (re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}"), r"\1/\2"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\*\*|__"), ""),
)
_WRAP = r"[\s:\"'(\[{$*]*(?:\\?(?:text|textbf|mathrm|mathbf)\s*\{)?\s*(?:(?:option|choice|letter)\s+)?[(\[\"'*]*"
# An upper-case letter that is no part of a word, or a lower-case one that ends the clause ("the answer is b .").
_LETTER = r"(?P<letter>[A-D](?![\w'])|[a-d](?=\s*(?:$|[.,;:)\]}*\n])))"
_FIRST_LETTER = re.compile(_WRAP + _LETTER)
_SECOND_LETTER = re.compile(r"[)\].*]*\s*(?:or|and|/|,|&)\s*(?:option\s+)?[(\[]?[A-D](?![\w'])")
_OPENS_LINE = re.compile(r"^\s*[(\[*]*([A-D])(?:[)\].:]|\s*$)", re.MULTILINE)
_BARE = re.compile(r"[\s(\[*\"']*([A-Da-d])[\s)\].:*\"']*")
_STANDS = re.compile(
    r"[(\[]([A-D])[)\]]|\b([A-D])[).](?!\w)|\b(?:option|choice)\s+([A-D])\b|(?<![\w'])([B-D])(?![\w'])|(?<![\w'])(A)\s*$"
)


def number_readings(text: str) -> dict[str, Fraction | None]:
    """The number that ``text`` answers with, None where it gives none: ``strict`` and ``flexible``."""
    clean = _cleaned(text)
    marked = [n for m in _MARKED.finditer(clean) if (n := _stated_number(m["rest"])) is not None]
    strict = marked[-1] if marked else None
    every = numbers(clean)
    return {"strict": strict, "flexible": strict if strict is not None else (every[-1] if every else None)}


def numbers(text: str) -> list[Fraction]:
    """Every number in ``text``, in order: commas group thousands, ``$`` and units fall away, ``1/2`` is a half."""
    found = []
    for match in _NUMBER.finditer(text):
        if len(match.group()) > _LONGEST:
            continue
        value = Fraction(match["value"].replace(",", ""))
        if match["under"] and int(match["under"]):
            value /= int(match["under"])
        found.append(-value if match["sign"] or match["inner"] else value)
    return found


def letter_readings(text: str) -> dict[str, str | None]:
    """The letter A to D that ``text`` answers with, None where it gives none or two: ``strict`` and ``flexible``."""
    clean = _cleaned(text)
    marked = [m["rest"] for m in _MARKED.finditer(clean) if _FIRST_LETTER.match(m["rest"])]
    if marked:
        strict = _stated_letter(marked[-1])
        return {"strict": strict, "flexible": strict}
    strict = _opening_letter(clean)
    if strict is None:
        stands = [next(filter(None, m.groups())) for m in _STANDS.finditer(clean)]
        return {"strict": None, "flexible": stands[-1] if stands else None}
    return {"strict": strict, "flexible": strict}


def equal_number(reading: Fraction | None, gold: str) -> bool:
    """Whether a reading has the gold number's value; no reading has none."""
    return reading is not None and reading == Fraction(gold)


def equal_letter(reading: str | None, gold: str) -> bool:
    """Whether a reading is the gold letter, whatever its case."""
    return reading is not None and reading.casefold() == gold.strip().casefold()


def _cleaned(text: str) -> str:
    for pattern, into in _CLEAN:
        text = pattern.sub(into, text)
    return text


def _stated_number(rest: str) -> Fraction | None:
    """The number after a mark: the one behind the last ``=`` of its sentence, else the first."""
    sentence = re.split(r"[.!?](?:\s|$)", rest, maxsplit=1)[0]
    _, equals, result = sentence.rpartition("=")
    found = (numbers(result) if equals else []) or numbers(sentence)
    return found[0] if found else None


def _stated_letter(rest: str) -> str | None:
    match = _FIRST_LETTER.match(rest)
    if match is None or _SECOND_LETTER.match(rest, match.end()):
        return None
    return match["letter"].upper()


def _opening_letter(text: str) -> str | None:
    """The letter that opens the text ("B", "(B)", "B. Paris"), unless other lines open with other letters."""
    if bare := _BARE.fullmatch(text):
        return bare[1].upper()
    opens = _OPENS_LINE.findall(text)
    return opens[0] if len(set(opens)) == 1 and _OPENS_LINE.match(text) else None
