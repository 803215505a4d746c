"""Overrides that choose an entry of a group: which these are, and what is wrong with the entries they name."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from dalign.config.problems import Problem, nearest


def drop_unknown_entries(job: Sequence[str], loader: ConfigLoader, problems: list[Problem]) -> list[str]:
    """The overrides of a job without those that name an entry which their group does not have, or none at all."""
    parser = OverridesParser.create(config_loader=loader)
    parsed = [(text, parser.parse_override(text)) for text in job]
    hydras = [text for text, override in parsed if override.is_hydra_override()]
    kept = []
    for text, override in parsed:
        checked = not override.is_delete() and not override.is_hydra_override()
        found = _group_problems(override, text, loader, hydras) if checked else []
        problems.extend(found)
        kept += [] if found else [text]
    return kept


def _group_problems(override: Override, text: str, loader: ConfigLoader, hydras: list[str]) -> list[Problem]:
    if not is_group(override, loader, hydras):
        return []
    group, value = override.key_or_group, override.value()
    key = override.package or group.replace("/", ".")
    entries = _entries(group, loader, hydras)
    if value is None:
        whole = text.partition("=")[0].lstrip("+")
        return [
            Problem(key, f"{text}: a group cannot be null; name an entry ({', '.join(entries)}) or drop it: ~{whole}")
        ]
    if value == []:
        return [Problem(key, f"{text}: the list is empty; name at least one of {', '.join(entries)}")]
    names = [str(name) for name in (value if isinstance(value, list) else [value])]
    return [Problem(key, _unknown_entry(text, group, name, entries)) for name in names if name not in entries]


def _unknown_entry(text: str, group: str, name: str, entries: list[str]) -> str:
    return f"{text.lstrip('+')}: the group {group!r} has no entry {name!r}; {nearest(name, entries)}"


def _entries(group: str, loader: ConfigLoader, hydras: list[str]) -> list[str]:
    return list(loader.get_group_options(group, overrides=hydras))


def is_group(override: Override, loader: ConfigLoader, hydras: list[str]) -> bool:
    """Whether an override chooses an entry of a group; ``hydras`` are the command line's own settings of Hydra."""
    return not isinstance(override._value, dict) and bool(_entries(override.key_or_group, loader, hydras))
