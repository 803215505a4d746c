"""Safety reasoning distilled into a student, what the student kept of its base, and sampling around it.

``load``, ``sample``, ``score`` and ``select`` are the library in ten lines (see ``dalign.api``); they are imported when
first used, so that ``import dalign`` stays free of torch.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load", "sample", "score", "select"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dalign import api

        return getattr(api, name)
    raise AttributeError(f"module 'dalign' has no attribute {name!r}")
