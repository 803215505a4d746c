"""The chapter "What RL changed": a sentence made of the rows, tables, and a CSV of every row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from dalign.report.formats import PlainTable, inert
from dalign.report.rl import Change
from dalign.report.rl_words import said_by, sentence
from dalign.report.tables import METRIC_WORDS, percent, with_interval

CAVEAT = (
    "'Before' is the distilled student, 'after' the same after RL, on the same prompts; means are over those that have "
    "a verdict both times. Differences are paired by prompt, with 95 % intervals clustered by group; they are "
    "exploratory, with no p-values and no adjustment for the number of rows. Marked * is what RL rewarded: the judge "
    "(on such prompts), or the form. Where a rewarding judge sees a change that no other sees, the reward may be "
    "hacked; judges are said not to agree where each one's difference lies outside the other's interval. Answers "
    "without a verdict leave both means: see 'finished', and unscored_before and unscored_after in rl.csv. Tokens have "
    "Student's t over groups. Selection: the headline's choice less one answer, before and after, and how much that "
    "differs, in points."
)
ORDER = (*METRIC_WORDS, "finished", "length")
SHORT = {
    "asr": "unsafe, %",
    "rubric": "rubric score, 0 to 100",
    "non_refusal_rate": "not refused, %",
    "over_refusal": "over-refusal, %",
    "accuracy": "right, %",
    "finished": "finished, %",
    "length": "response tokens",
}
NUMBERS = ("before", "after", "difference", "n")


def rl_tables(changes: Sequence[Change]) -> list[PlainTable]:
    """One answer before and after; the headline's selection before and after; the same of each subset."""
    ranked = sorted(changes, key=lambda c: (ORDER.index(c.metric), c.judge_kind != "toy_truth", c.judge))
    whole = [c for c in ranked if c.subset == "all"]
    heads = ("counted", "benchmark", "judge")
    found = [
        PlainTable(
            f"rl_{quantity}{name}",
            f"{title}{more}",
            (*heads, *(("subset",) if name else ()), *NUMBERS),
            tuple(_line(c, subset=bool(name)) for c in rows if c.quantity == quantity),
            4 if name else 3,
        )
        for name, more, rows in (
            ("", "", whole),
            ("_subsets", ", by subset", [c for c in ranked if c.subset != "all"]),
        )
        for quantity, title in (
            ("answer", "One answer, before and after RL"),
            ("selection", "The headline's change against one answer, points, before and after RL"),
        )
    ]
    return [table for table in found if table.rows]


def rl_csv(changes: Sequence[Change]) -> str:
    """Every change, floats in full precision, an unknown number an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([f.name for f in fields(Change)])
    writer.writerows(map(_cells, changes))
    return stream.getvalue()


def rl_markdown(changes: Sequence[Change]) -> str:
    """The sentence, what to know, and the tables."""
    return "\n".join([f"{sentence(changes)}\n", f"{CAVEAT}\n", *(table.markdown() for table in rl_tables(changes))])


def _cells(change: Change) -> list[str]:
    values = asdict(change).values()
    return ["" if v is None else str(v).lower() if isinstance(v, bool) else inert(str(v)) for v in values]


def _line(change: Change, *, subset: bool) -> tuple[str, ...]:
    if change.metric == "length":
        ends = (_tokens(change.before), _tokens(change.after), _token_interval(change))
    else:
        difference = with_interval(change.difference, change.low, change.high, signed=True)
        ends = (percent(change.before), percent(change.after), difference)
        if change.quantity == "selection":
            before = with_interval(change.before, change.before_low, change.before_high, signed=True)
            after = with_interval(change.after, change.after_low, change.after_high, signed=True)
            ends = (before, after, difference)
    where = (change.benchmark, said_by(change), *((change.subset,) if subset else ()))
    return (SHORT[change.metric], *where, *ends, str(change.n_prompts))


def _tokens(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _token_interval(change: Change) -> str:
    if change.difference is None:
        return "–"
    text, *ends = (f"{x:+.1f}".replace("-", "−") for x in (change.difference, change.low, change.high) if x is not None)
    return f"{text} [{', '.join(ends)}]" if len(ends) == 2 else text
