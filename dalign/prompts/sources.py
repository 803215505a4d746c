"""Where rows come from: a local file or folder, or a file of a data set on the model hub.

``path`` wins over ``hub_id``. Hub files are downloaded at the pinned revision by huggingface_hub and read by the same
readers as local ones, so nothing that a hub repository contains is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from dalign.errors import DataError
from dalign.prompts.readers import Row, format_of, read_rows
from dalign.specs.data import DatasetSpec, PromptSource
from dalign.specs.run import PathsSpec

FILE = "(file)"
Choose = Callable[[Sequence[str]], list[str]]


def locate(path: str, key: str, paths: PathsSpec) -> Path:
    """The existing file or folder that ``path`` means: absolute, below ``paths.data``, or from the working folder.

    Raises ``DataError`` naming the keys ``key`` and ``paths.data`` if there is none.
    """
    given = Path(path).expanduser()
    data = Path(paths.data).expanduser()
    tried = [given] if given.is_absolute() else [data / given, given]
    for candidate in tried:
        if candidate.exists():
            return candidate
    places = " or ".join(str(p) for p in tried)
    raise DataError(
        f"{key}={path}: no such file: {places}\n  set {key}=FILE, or paths.data={paths.data} to another folder"
    )


def local_source(spec: PromptSource | DatasetSpec, path: str, key: str, paths: PathsSpec) -> Path:
    """The existing file or folder of a spec's ``path``. Raises ``DataError`` as ``locate`` does, naming the hub too."""
    try:
        return locate(path, f"{key}.path", paths)
    except DataError as error:
        if spec.hub_id is None:
            raise
        raise DataError(f"{error}, or {key}.path=null to take {spec.hub_id} from the hub") from error


def source_files(
    spec: PromptSource | DatasetSpec, key: str, paths: PathsSpec, choose: Choose | None = None
) -> list[Path]:
    """The local files of a spec, or its folder; downloaded first if they are the hub's.

    ``choose`` picks the files of a hub repository by their names; else ``split_files`` does. Raises ``DataError`` if
    the spec names neither a path nor a hub id, or if either is out of reach.
    """
    if spec.path is not None:
        return [local_source(spec, spec.path, key, paths)]
    if spec.hub_id is None:
        raise DataError(f"{key}: has neither a path nor a hub id; set {key}.path=FILE or {key}.hub_id=ID")
    return _download(spec, spec.hub_id, key, choose or (lambda names: split_files(names, spec.split, spec.hub_file)))


def source_rows(spec: PromptSource | DatasetSpec, key: str, paths: PathsSpec, kind: str | None = None) -> list[Row]:
    """The rows of a spec's files in order, numbered through, each with its file's name in the column ``(file)``.

    ``kind`` is the format of local files; without one, and on the hub, a file's ending tells it.
    """
    rows: list[Row] = []
    local = spec.path is not None
    for file in (f for found in source_files(spec, key, paths) for f in _below(found, spec, key)):
        read = read_rows(file, kind if kind is not None and local else format_of(file))
        rows += [Row(r.where, len(rows) + i, {**r.cells, FILE: file.stem}) for i, r in enumerate(read)]
    return rows


def _below(found: Path, spec: PromptSource | DatasetSpec, key: str) -> list[Path]:
    """The file itself, or those of a folder that ``hub_file`` fits, by name."""
    if not found.is_dir():
        return [found]
    if spec.hub_file is None:
        raise DataError(f"{key}.path={spec.path}: {found} is a folder, a file is needed")
    names = [file.relative_to(found).as_posix() for file in found.rglob("*") if file.is_file()]
    chosen = split_files(names, spec.split, spec.hub_file)
    if not chosen:
        raise DataError(f"{key}.path={spec.path}: no file in {found} fits {key}.hub_file={spec.hub_file}")
    return [found / name for name in chosen]


def check_count(count: int, expected: int | None, key: str) -> None:
    """Raises ``DataError`` where ``expected`` is set and is not ``count``, the rows that were read."""
    if expected is not None and count != expected:
        raise DataError(
            f"{key}: {count} rows where {expected} are expected: another version of the file? set "
            f"{key}.expected_rows=null to take it as it is, or limit=N for fewer prompts"
        )


def split_files(names: Sequence[str], split: str, pattern: str | None) -> list[str]:
    """Those of a repository's files that hold a split: by ``pattern`` if given, else by the file's name.

    Without a pattern one kind of file alone is taken (Parquet first), since repositories keep the same rows twice.
    """
    if pattern is not None:
        return sorted(n for n in names if fnmatch(n, pattern))
    for ending in ("parquet", "jsonl", "json", "csv", "tsv"):
        wanted = (f"{split}.{ending}", f"{split}-*.{ending}")
        if found := sorted(n for n in names if any(fnmatch(n.rsplit("/", 1)[-1], w) for w in wanted)):
            return found
    return []


def _download(spec: PromptSource | DatasetSpec, hub_id: str, key: str, choose: Choose) -> list[Path]:
    import huggingface_hub
    from huggingface_hub import errors

    head = f"{key}.hub_id={hub_id} (revision {spec.revision or 'main'})"
    unreachable: tuple[type[Exception], ...] = (OSError, errors.HfHubHTTPError, *_transport_errors())
    local = f"or set {key}.path=FILE to a copy of it"
    try:
        names = huggingface_hub.list_repo_files(hub_id, revision=spec.revision, repo_type="dataset")
        chosen = choose(list(names))
        fetched = [
            huggingface_hub.hf_hub_download(hub_id, name, revision=spec.revision, repo_type="dataset")
            for name in chosen
        ]
    except errors.GatedRepoError as error:
        url = f"https://huggingface.co/datasets/{hub_id}"
        raise DataError(f"{head}: gated; ask for access at {url}, put your token into HF_TOKEN, {local}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise DataError(
            f"{head}: no such data set or revision, or a private one (HF_TOKEN); check it, {local}"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise DataError(f"{head}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it, {local}") from error
    except unreachable as error:
        raise DataError(
            f"{head}: the hub cannot be reached ({type(error).__name__}); check the network, {local}"
        ) from error
    if not fetched:
        wanted = spec.hub_file or f"split {spec.split!r}"
        raise DataError(
            f"{key}.hub_id={hub_id}: no file for {wanted}; set {key}.hub_file, there are: {', '.join(names)}"
        )
    return [Path(f) for f in fetched]


def _transport_errors() -> tuple[type[Exception], ...]:
    """The root of what huggingface_hub's HTTP client raises; which client it is depends on the hub's version."""
    from huggingface_hub.errors import HfHubHTTPError

    roots = [base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"]
    return tuple(base for base in roots if issubclass(base, Exception))
