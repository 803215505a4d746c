"""Where rows come from: a local file or folder, or a file of a data set on the model hub.

``path`` wins over ``hub_id``. Hub files are downloaded at the pinned revision by huggingface_hub and read by the same
readers as local ones, so nothing that a hub repository contains is executed.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from dalign.errors import DataError
from dalign.prompts.readers import Row, format_of, read_rows
from dalign.specs.data import BenchmarkSpec, DatasetSpec
from dalign.specs.run import PathsSpec


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


def source_files(spec: BenchmarkSpec | DatasetSpec, key: str, paths: PathsSpec) -> list[Path]:
    """The local files of a spec, downloaded first if they are the hub's; several only where the hub shards a split.

    Raises ``DataError`` if the spec names neither, or if either is out of reach.
    """
    if spec.path is not None:
        try:
            return [locate(spec.path, f"{key}.path", paths)]
        except DataError as error:
            if spec.hub_id is None:
                raise
            raise DataError(f"{error}, or {key}.path=null to take {spec.hub_id} from the hub") from error
    if spec.hub_id is None:
        raise DataError(f"{key}: has neither a path nor a hub id; set {key}.path=FILE or {key}.hub_id=ID")
    return _download(spec, spec.hub_id, key)


def source_rows(spec: BenchmarkSpec | DatasetSpec, key: str, paths: PathsSpec, kind: str | None = None) -> list[Row]:
    """The rows of a spec's files in order, numbered through; ``kind`` null takes each file's format from its ending."""
    rows: list[Row] = []
    for file in source_files(spec, key, paths):
        if file.is_dir():
            raise DataError(f"{key}.path={spec.path}: {file} is a folder, a file is needed")
        rows += [Row(r.where, len(rows) + i, r.cells) for i, r in enumerate(read_rows(file, kind or format_of(file)))]
    return rows


def split_files(names: list[str], split: str, pattern: str | None) -> list[str]:
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


def _download(spec: BenchmarkSpec | DatasetSpec, hub_id: str, key: str) -> list[Path]:
    import huggingface_hub
    from huggingface_hub import errors

    head = f"{key}.hub_id={hub_id} (revision {spec.revision or 'main'})"
    unreachable: tuple[type[Exception], ...] = (OSError, errors.HfHubHTTPError, *_transport_errors())
    local = f"or set {key}.path=FILE to a copy of it"
    try:
        names = huggingface_hub.list_repo_files(hub_id, revision=spec.revision, repo_type="dataset")
        chosen = split_files(list(names), spec.split, spec.hub_file)
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
