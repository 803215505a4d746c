"""Files that a kill cannot tear: written beside their place, synced, then renamed. JSON, Parquet and safetensors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dalign.errors import ArtifactError, ConfigError
from dalign.records import Record

if TYPE_CHECKING:
    import numpy as np

R = TypeVar("R", bound=Record)
FACTS = "facts"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """``write`` fills a temporary file in the same folder, which then takes ``path``'s place, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def name_folder(written: Path, target: Path) -> None:
    """A finished folder of files takes its name: they are synced, then it is renamed."""
    for path in written.iterdir():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    os.replace(written, target)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, all or nothing."""
    replace_file(path, lambda to: _write_bytes(to, text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, all or nothing. Raises ``ValueError`` on NaN or infinity."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_named(option: str, path: Path, value: Any) -> None:
    """``write_json`` to a file that the user named by ``option``. Raises ``ConfigError`` if it cannot be written."""
    try:
        write_json(path, value)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written ({error.strerror}); name another file") from error


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def read_json(path: Path) -> Any:
    """The JSON of a file. Raises ``ArtifactError`` naming the file if it is missing or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not readable as JSON ({error}); delete it to have it made again") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Writes records of one type as Parquet, one column a field, maps as JSON text, with the type and schema inside."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = type(records[0]).__name__ if records else ""
    rows = [
        {k: json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for k, v in r.to_dict().items()}
        for r in records
    ]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"dalign.record": kind})
    replace_file(path, lambda to: pq.write_table(table, to))


def read_records(path: Path, kind: type[R]) -> list[R]:
    """The records of a Parquet file written by ``write_records``. Raises ``ArtifactError`` for another file or type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path}: not readable as Parquet ({error})") from error
    found = (table.schema.metadata or {}).get(b"dalign.record", b"").decode()
    if found not in ("", kind.__name__):
        raise ArtifactError(f"{path}: holds {found} records, {kind.__name__} were expected")
    maps = {name for name, text in kind.__annotations__.items() if str(text).startswith("dict")}
    rows = ({k: json.loads(v) if k in maps else v for k, v in row.items()} for row in table.to_pylist())
    try:
        return [kind.from_dict(row) for row in rows]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Writes safetensors, all or nothing. ``facts`` (JSON) are one entry: several come in any order."""
    import numpy as np
    from safetensors.numpy import save_file

    text = {FACTS: json.dumps(facts, sort_keys=True, allow_nan=False)}
    # save_file writes an array's memory as it lies: one in another order would come back scrambled, without a word.
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    replace_file(path, lambda to: save_file(ordered, to, text))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What ``write_tensors`` wrote: tensors and facts. ``ArtifactError`` for a torn file or one without facts."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the handle is no mapping
            facts = json.loads((file.metadata() or {})[FACTS])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); delete its folder to have it made again") from error
    return tensors, facts
