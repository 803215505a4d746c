"""A plain table in four formats, its texts inert in each: Markdown, CSV, LaTeX, HTML."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from html import escape

from dalign.report.document import table

_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
_TEX |= {"^": r"\textasciicircum{}", "\u2212": "$-$", "\u2013": "--"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class PlainTable:
    """A table of texts; the first ``text`` columns are left aligned."""

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: int

    def markdown(self) -> str:
        rule = ["---" if i < self.text else "---:" for i in range(len(self.head))]
        lines = [self.head, tuple(rule), *self.rows]
        return f"{self.title}\n\n" + "".join(f"| {' | '.join(map(_markdown, line))} |\n" for line in lines)

    def csv(self) -> str:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([[inert(c) for c in r] for r in (self.head, *self.rows)])
        return stream.getvalue()

    def latex(self) -> str:
        columns = "l" * self.text + "r" * (len(self.head) - self.text)
        head, *body = [" & ".join(map(_latex, row)) + r" \\" for row in (self.head, *self.rows)]
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return f"% {self.title}\n" + "\n".join(lines) + "\n\\end{tabular}\n"

    def texts(self) -> dict[str, str]:
        """The table as a file of each kind, by suffix."""
        return {"md": self.markdown(), "csv": self.csv(), "tex": self.latex()}

    def html(self, heading: str = "h2") -> str:
        return f"<{heading}>{escape(self.title)}</{heading}>\n{table(self.head, self.rows, self.text)}"


def _markdown(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _latex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in " ".join(text.split()))


def inert(text: str) -> str:
    """The text so that a spreadsheet runs none of it as a formula; a number stays one."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
