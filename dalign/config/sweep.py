"""Names the folder of a sweep's job after what it varies: ``NAME/model.lora.r=8,seed=1``."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from dalign.records import digest
from dalign.specs.run import RunSpec

# A run holds all its stages, policies and benchmarks: sweeping over these does not split it.
_WITHIN_A_RUN = ("run", "stage", "policies", "benchmark", "protocol", "logger", "trainer")
_LONGEST = 120


def in_sweep(spec: RunSpec, job: Sequence[str], swept: Collection[str]) -> RunSpec:
    """``spec`` with its run moved into the sweep's subfolder; unchanged where nothing that splits runs is swept.

    ``job`` holds the overrides of this job, ``swept`` the keys (with their ``+`` signs) that have several values.
    """
    varied = [text for text in job if text.partition("=")[0] in swept]
    parts = sorted(text.lstrip("+") for text in varied if text.lstrip("+").partition("=")[0] not in _WITHIN_A_RUN)
    return spec.model_copy(update={"run": f"{spec.run}/{_folder_name(parts)}"}) if parts else spec


def _folder_name(parts: Sequence[str]) -> str:
    text = ",".join(parts)
    plain = re.sub(r"[^A-Za-z0-9._=,+-]", "-", text).lstrip("._=,+-")
    # Two jobs must not share a folder because a character was replaced or the end was cut.
    return plain if plain == text and len(plain) <= _LONGEST else f"{plain[:_LONGEST]}-{digest(text)[:8]}"
