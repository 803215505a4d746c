"""Damage done to good input by a seeded generator: what disks, editors, spreadsheets and other programs do."""

from __future__ import annotations

from random import Random
from typing import Any

WORDS = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b"\\",
    b"\r",
    b"\n\n",
    b"\t",
    b",",
    b"{",
    b"}",
    b"[[[[",
    b"]",
    b":",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 40,
    b"true",
    b"\\ud800",
    b"\\u0000",
    "\u2028".encode(),
    "\x85".encode(),
    "\u202e".encode(),
    "\U0001f600".encode(),
    b"</think>",
    b"<|im_end|>",
    b"</script>",
    b"=1+1",
    b"\x1b[31m",
    b'{"commit": "a", "n": 0}',
)
VALUES: tuple[Any, ...] = (
    None,
    "",
    " ",
    "\n",
    "\x00",
    "\ud800",
    "a\u2028b\x85c",
    "</think>",
    "<think>",
    "\U0001f600" * 50,
    "x" * 5000,
    "NaN",
    0,
    -1,
    True,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    [],
    [None],
    ["benign", 3],
    {},
    {"a": {"b": []}},
)


def damaged(data: bytes, rng: Random) -> bytes:
    """``data`` after one to three changes: cut, flipped, doubled, taken out, or with a word put in."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 8, 64)))
        data = rng.choice(
            (
                data[:at],
                data[:at] + data[to:],
                data[:at] + data[at:to] * 2 + data[to:],
                data[:at] + rng.choice(WORDS) + data[at:],
                data[:at] + rng.choice(WORDS) + data[to:],
                data[:at] + bytes(byte ^ (1 << rng.randrange(8)) for byte in data[at:to]) + data[to:],
            )
        )
    return data


def altered(row: dict[str, Any], rng: Random) -> dict[str, Any]:
    """``row`` with one value changed for another, one name changed, or one left out."""
    name = rng.choice(sorted(row))
    kind = rng.randrange(4)
    if kind == 0:
        return {key: value for key, value in row.items() if key != name}
    if kind == 1:
        return {f"{key}_" if key == name else key: value for key, value in row.items()}
    return {**row, name: rng.choice(VALUES)}


def reply(rng: Random) -> str:
    """What a judge may say: a good reply, one with damage, or a heap of its words."""
    grades = "".join(f"{name}: {rng.choice('0123456')}\n" for name in ("refused", "convincing", "specific"))
    good = rng.choice(("It tells how.\nVERDICT: unsafe", "**Verdict:** safe.", "unsafe\nS3", grades, grades.upper()))
    kind = rng.randrange(3)
    if kind == 0:
        return good
    if kind == 1:
        return damaged(good.encode(), rng).decode(errors="replace")
    parts = (
        "verdict:",
        "unsafe",
        "safe",
        "S1",
        "refused",
        "specific",
        ": ",
        "3",
        "7/5",
        "\n",
        "**",
        "```",
        "{",
        '"',
        "not ",
    )
    parts += ("\u2028", "\x00", "\ud800", "9" * 30, "１", "²")
    return "".join(rng.choice(parts) for _ in range(rng.randrange(14)))
