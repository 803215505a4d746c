"""A selector never sees a verdict, and selecting does not import torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import dalign.select
from dalign.select import SelectorInput

ROOM = Path(dalign.select.__file__).parent
FORBIDDEN_ROOMS = ("dalign.judge", "dalign.report", "dalign.toy", "dalign.evaluator")
FORBIDDEN_NAMES = ("verdict", "label", "unsafe", "judge", "correct", "truth")


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def identifiers(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        for attribute in ("id", "arg", "attr", "name"):
            value = getattr(node, attribute, None)
            if isinstance(value, str):
                found.add(value.lower())
    return found


def test_no_selector_imports_judges_or_reports_or_names_a_verdict() -> None:
    modules = sorted(ROOM.glob("**/*.py"))
    assert len(modules) >= 3
    for path in modules:
        tree = ast.parse(path.read_text())
        assert not [n for n in imported(tree) if n.startswith(FORBIDDEN_ROOMS) or "Verdict" in n], path
        assert not [n for n in identifiers(tree) if any(word in n for word in FORBIDDEN_NAMES)], path


def test_the_input_has_no_place_for_a_verdict() -> None:
    known = {"scores", "lengths_PN", "finished_PN", "exists_PN", "answers", "until"}
    assert {f.name for f in fields(SelectorInput)} == known


def test_selecting_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, dalign.select; print(sorted({'torch', 'transformers', 'dalign.judge'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
