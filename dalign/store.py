"""A stage's folder: what it was made from, its progress, and its files, complete once ``manifest.json`` stands.

Work is a list of chunks planned before the start. A chunk is committed whole, as a run of JSON lines closed by a commit
line; what follows the last commit line is the tail of a killed run and is cut off. So a rerun does what is missing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import yaml

from dalign.errors import ArtifactError
from dalign.files import read_json, sha256, write_json, write_text
from dalign.records import Record

R = TypeVar("R", bound=Record)
MANIFEST = "manifest.json"


class ChunkLog(Generic[R]):
    """Records of one type, committed chunk by chunk in ``<folder>/<name>.jsonl``."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path, self.kind = path, kind
        self._done: dict[str, list[R]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._recover()

    @property
    def done(self) -> Mapping[str, Sequence[R]]:
        """The committed chunks, in the order they were committed."""
        return self._done

    def commit(self, chunk: str, records: Sequence[R]) -> None:
        """Appends a chunk and its commit line, synced to disk. Raises ``ValueError`` if the chunk stands already."""
        if chunk in self._done:
            raise ValueError(f"chunk {chunk!r} is committed already")
        lines = [json.dumps(r.to_dict(), ensure_ascii=False, allow_nan=False) for r in records]
        lines.append(json.dumps({"commit": chunk, "n": len(records)}))
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())
        self._done[chunk] = list(records)

    def remove(self) -> None:
        """Deletes the file, once its records are final elsewhere."""
        self.path.unlink(missing_ok=True)

    def _recover(self) -> None:
        if not self.path.exists():
            return
        good, position, pending = 0, 0, []
        with self.path.open("rb") as stream:
            for line in stream:
                position += len(line)
                row = _json_or_none(line)
                if row is None:
                    break
                if "commit" not in row:
                    pending.append(row)
                    continue
                known = isinstance(row["commit"], str) and row["commit"] not in self._done
                if not known or row.get("n") != len(pending):
                    raise ArtifactError(f"{self.path}: chunk {row['commit']!r} is damaged; delete the file to redo it")
                try:
                    self._done[row["commit"]] = [self.kind.from_dict(r) for r in pending]
                except (ValueError, TypeError) as error:
                    raise ArtifactError(
                        f"{self.path}: chunk {row['commit']!r} is damaged ({error}); delete the file to redo it"
                    ) from error
                good, pending = position, []
        with self.path.open("rb+") as stream:
            stream.truncate(good)


def _json_or_none(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


class StageFolder:
    """One stage's folder, locked while open. Use as a context manager.

    ``config`` is the resolved configuration, ``results`` the part of it that changes results: continuing under another
    one is refused, and the difference shown. ``inputs`` maps what the stage reads to its hash.
    """

    def __init__(
        self, path: Path, *, config: Mapping[str, Any], results: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> None:
        self.path = path
        self._config, self._results, self._inputs = dict(config), dict(results), dict(inputs)
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._lock = os.open(self.path, os.O_RDONLY)  # the folder itself is locked: a kill leaves nothing behind
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: cannot be written ({error.strerror}); choose another paths.runs="
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ArtifactError(
                f"{self.path}: another command is working there; wait for it, or use another run="
            ) from error
        for left in self.path.glob(".*.tmp"):  # of a write that a kill cut short; the lock is ours
            left.unlink()
        try:
            self._check()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    @property
    def finished(self) -> bool:
        """Whether the manifest stands and every file it names is there, whole."""
        manifest = self.path / MANIFEST
        if not manifest.exists():
            return False
        for name, size in read_json(manifest)["files"].items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != size["bytes"]:
                raise ArtifactError(
                    f"{file}: missing or cut short since the stage finished; delete {manifest} to redo it"
                )
        return True

    def chunk_log(self, name: str, kind: type[R]) -> ChunkLog[R]:
        """The chunk log ``<name>.jsonl`` of this folder."""
        return ChunkLog(self.path / f"{name}.jsonl", kind)

    def log(self, row: Mapping[str, float | int | str | None]) -> None:
        """Appends a row to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(row), allow_nan=False) + "\n")

    def finish(self, files: Sequence[str], **facts: Any) -> None:
        """Writes the manifest: the final files with size and hash, and what else is worth knowing. It comes last."""
        table = {
            name: {"bytes": (self.path / name).stat().st_size, "sha256": sha256(self.path / name)} for name in files
        }
        write_json(self.path / MANIFEST, {"schema": 1, "files": table, **facts})

    def _check(self) -> None:
        """Refuses to continue under a config or inputs that would change the results; then records them."""
        key = {"results": self._results, "inputs": self._inputs}
        before = self.path / "inputs.json"
        if before.exists():
            if changed := differences(read_json(before), key):
                raise ArtifactError(
                    f"{self.path} was made under another configuration; continuing would mix results:\n{changed}\n"
                    "  use another run=NAME, or delete that folder"
                )
        else:
            from dalign.versions import versions

            write_json(self.path / "versions.json", versions(self._config))
            write_json(before, key)
        write_text(self.path / "config.yaml", yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True))


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two nested configurations, a line a key, as people read it; empty if nothing does."""
    old, new = _flat(recorded), _flat(json.loads(json.dumps(wanted)))
    changed = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    return "\n".join(f"  {k}: {old.get(k, 'absent')!r} -> {new.get(k, 'absent')!r}" for k in changed)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested dict as dotted keys to leaves; lists are leaves."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        k: v
        for name, inner in value.items()
        for k, v in _flat(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def run_chunks(
    log: ChunkLog[R], plan: Mapping[str, Callable[[], Sequence[R]]], progress: Callable[[int, int], None] | None = None
) -> list[R]:
    """Does the chunks of ``plan`` that ``log`` lacks, in order, and returns all records in the plan's order."""
    for i, (name, work) in enumerate(plan.items()):
        if name not in log.done:
            log.commit(name, work())
        if progress:
            progress(i + 1, len(plan))
    return [record for name in plan for record in log.done[name]]


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields ``report(done, total)``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
