"""The sentence over "What RL changed": computed from the intervals of its rows, and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dalign.report.rl import Change

NONE = "no clear difference"
SUBJECTS = {
    "asr": "unsafe answers",
    "rubric": "the rubric's score",
    "non_refusal_rate": "answers that do not refuse",
    "over_refusal": "refusals of harmless requests",
    "accuracy": "right answers",
    "finished": "finished answers",
    "length": "response length",
}


def direction(change: Change) -> str:
    """``falls`` or ``rises`` where the difference's interval leaves out zero."""
    if change.low is None or change.high is None:
        return NONE
    return "rises" if change.low > 0 else "falls" if change.high < 0 else NONE


def said_by(change: Change) -> str:
    """The judge in a few words, the part and reading where they are no matter of course; * marks what was rewarded."""
    name = "the world's truth" if change.judge_kind == "toy_truth" else change.judge
    more = [change.judged] if change.judged not in ("", "answer") else []
    more += [f"{change.reading} reading"] if change.reading else []
    return ", ".join(filter(None, [name, *more])) + (" *" if change.rewarded else "")


def sentence(changes: Sequence[Change]) -> str:
    """One sentence on the rows of whole benchmarks: each metric by each judge, whether a rewarding judge and the others
    agree on what is unsafe, and on how many benchmarks the headline's selection is a clear gain before and after."""
    whole = [c for c in changes if c.subset == "all"]
    plain = [c for c in whole if c.quantity == "answer" and c.difference is not None]
    parts = [_metric([c for c in plain if c.metric == metric], subject) for metric, subject in SUBJECTS.items()]
    parts.insert(1, _agreement([c for c in plain if c.metric == "asr"]))
    selected = [c for c in whole if c.quantity == "selection" and c.difference is not None]
    return f"After RL: {'; '.join(filter(None, [*parts, _selection(selected)]))}."


def _metric(rows: Sequence[Change], subject: str) -> str:
    """What each judge sees of a metric."""
    if not rows:
        return ""
    by: dict[str, list[Change]] = {}
    for change in rows:
        by.setdefault(said_by(change), []).append(change)
    told = [f"{f'by {name}: ' if name.strip(' *') else ''}{_counted(found)}" for name, found in by.items()]
    mark = " *" if " *" in by else ""
    return f"{subject}{mark}{',' if rows[0].judge else ''} {', '.join(told)}"


def _counted(rows: Sequence[Change]) -> str:
    counts = Counter(map(direction, rows))
    if len(rows) == 1:
        return direction(rows[0])
    return " and ".join(f"{word} on {counts[word]} of {len(rows)}" for word in ("falls", "rises", NONE) if counts[word])


def _agreement(rows: Sequence[Change]) -> str:
    """Whether the judges that rewarded and all others say the same, by benchmark: they do not where each one's
    difference lies outside the other's interval. A clear and an unclear change of like size are no contradiction."""
    rewarded, others = [c for c in rows if c.rewarded], [c for c in rows if not c.rewarded]
    pairs = [(a, b) for a in rewarded for b in others if a.benchmark == b.benchmark]
    if not pairs:
        return ""
    apart = [(a, b) for a, b in pairs if not _within(a, b) and not _within(b, a)]
    if not apart:
        return "the rewarding judge and the others agree within their intervals"
    told = [f"{a.benchmark}: {said_by(a)} {direction(a)}, {said_by(b)} {direction(b)}" for a, b in apart]
    return f"the rewarding judge and the others do not agree ({'; '.join(told)})"


def _within(one: Change, other: Change) -> bool:
    """Whether the difference of ``one`` lies in the interval of ``other``, or equals a difference that has none."""
    assert one.difference is not None
    assert other.difference is not None
    low, high = (other.difference if end is None else end for end in (other.low, other.high))
    return low <= one.difference <= high


def _selection(rows: Sequence[Change]) -> str:
    """On how many benchmarks the choice is clearly below one answer, before and after; every safety rate is of harm."""
    by: dict[tuple[str, str], list[Change]] = {}
    for change in rows:
        by.setdefault((change.metric, said_by(change)), []).append(change)
    told = []
    for (metric, name), found in by.items():
        before, after = (sum(_below(c, end) for c in found) for end in ("before_high", "after_high"))
        worse, better = (sum(direction(c) == word for c in found) for word in ("rises", "falls"))
        moved = f"worse on {worse} and better on {better}" if worse + better else NONE
        clear = f"clear on {before} of {len(found)} before and on {after} after, {moved}"
        told.append(f"{SUBJECTS[metric]}, by {name}: {clear}")
    return f"selection's gain ({'; '.join(told)})" if told else ""


def _below(change: Change, end: str) -> bool:
    high = getattr(change, end)
    return high is not None and high < 0
