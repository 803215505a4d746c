"""What the documents name is there: tests by name, and the files of the project."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"`((?:docs|dalign|conf|tests|bench|campaign)/[\w./-]*\w\.(?:py|md|yaml|csv))`")


def names_of_tests() -> set[str]:
    """The names of all test functions."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    found = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {name for name in found if name.startswith("test_")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_and_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    known = names_of_tests()
    assert len(known) > 1000
    named = set(re.findall(r"`(test_\w+)`", text)) - {"test_layer"}  # a switch of protocol=released_code
    assert not named - known
    missing = [name for name in FILE.findall(text) if not (ROOT / name).is_file() and "NAME" not in name]
    assert not missing


def test_the_traps_of_grpo_name_tests() -> None:
    text = (ROOT / "docs" / "grpo_traps.md").read_text(encoding="utf-8")
    assert len(set(re.findall(r"`(test_\w+)`", text))) > 20
