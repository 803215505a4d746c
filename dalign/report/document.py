"""A page's frame and its plain parts: one style sheet, one script of our own, a content policy that allows no other.

The policy forbids every load and every script but the one whose hash it names; texts are escaped here, once.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

from dalign.report.svg import FigureSvg

SCRIPTS = ("state", "text", "tables", "data", "filters", "answers", "controls", "samples", "start")
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

Cell = str | tuple[str, str]


def document(name: str, parts: Sequence[str]) -> str:
    """A whole page around ``parts``, which are HTML. It may load nothing, and run nothing but its own script."""
    script = _script()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy(script))}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>dalign: {escape(name)}</title><style>{_asset('report.css')}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{script}</script>\n</body></html>\n"
    )


def policy(script: str) -> str:
    """The content policy that lets ``script`` run, by the SHA-256 of its text, and nothing else."""
    return POLICY.format(script="sha256-" + b64encode(hashlib.sha256(script.encode()).digest()).decode())


@cache
def _script() -> str:
    """The page's script, its files as one, with a scope of its own."""
    return '(() => {\n"use strict";\n' + "\n".join(_asset(f"{name}.js") for name in SCRIPTS) + "})();\n"


@cache
def _asset(name: str) -> str:
    return (files("dalign.report") / "assets" / name).read_text(encoding="utf-8")


def paragraphs(*texts: str, small: bool = False) -> list[str]:
    """A paragraph a text."""
    return [f"<p{' class=' + chr(34) + 'small' + chr(34) if small else ''}>{escape(text)}</p>" for text in texts]


def bullets(texts: Sequence[str]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def figure(drawn: FigureSvg) -> str:
    """An inline figure over its caption."""
    return f"<figure>{drawn.svg}<figcaption>{escape(drawn.caption)}</figcaption></figure>"


def table(head: Sequence[str], body: Sequence[Sequence[Cell]], text: int, peeks: Sequence[bool] = ()) -> str:
    """A table whose first ``text`` columns are left aligned; a cell may carry a class; peeking rows are in italics. The
    page's script lets it sort and filter; without one it reads the same."""
    marks = list(peeks) or [False] * len(body)
    rows = [
        f"<tr{' class=' + chr(34) + 'peeks' + chr(34) if mark else ''}>"
        + "".join(_cell("td", value, i < text) for i, value in enumerate(row))
        + "</tr>"
        for row, mark in zip(body, marks, strict=True)
    ]
    top = "".join(_cell("th", name, i < text) for i, name in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cell(tag: str, value: Cell, is_text: bool) -> str:
    words, claim = value if isinstance(value, tuple) else (value, "")
    names = " ".join(filter(None, ["text" if is_text else "", claim]))
    return f"<{tag}{f' class={chr(34)}{names}{chr(34)}' if names else ''}>{escape(words)}</{tag}>"
