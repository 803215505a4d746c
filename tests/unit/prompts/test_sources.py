"""Where files are looked for, which hub files are taken, and what is said when the hub is out of reach."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from dalign.errors import DataError
from dalign.prompts.sources import locate, source_rows, split_files
from dalign.specs.data import DatasetSpec
from dalign.specs.run import PathsSpec

HUB = DatasetSpec(name="made_up", format="star41k", hub_id="nobody/nothing", revision="0123abc")


def test_data_folder_comes_before_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "x.csv").write_text("here")
    monkeypatch.chdir(tmp_path)
    paths = PathsSpec(data="data")
    assert locate("x.csv", "benchmark.b.path", paths) == Path("x.csv")
    (tmp_path / "data/x.csv").write_text("there")
    assert locate("x.csv", "benchmark.b.path", paths) == Path("data/x.csv")
    assert locate(str(tmp_path / "x.csv"), "benchmark.b.path", paths) == tmp_path / "x.csv"


def test_missing_file_of_a_hub_data_set_names_the_way_out(tmp_path: Path) -> None:
    spec = HUB.model_copy(update={"path": "gone.json"})
    with pytest.raises(
        DataError, match=r"dataset\.path=gone\.json: no such file(.|\n)*dataset\.path=null to take nobody/nothing"
    ):
        source_rows(spec, "dataset", PathsSpec(data=str(tmp_path)))


def test_split_files_take_one_kind_of_file() -> None:
    names = [
        "README.md",
        "data/train-00001-of-00002.parquet",
        "data/train-00000-of-00002.parquet",
        "train.csv",
        "test.csv",
    ]
    assert split_files(names, "train", None) == names[2:0:-1]
    assert split_files(names, "test", None) == ["test.csv"]
    assert split_files(names, "train", "*.csv") == ["test.csv", "train.csv"]
    assert split_files(names, "dev", None) == []


def test_offline_hub_is_an_error_with_a_remedy() -> None:
    with pytest.raises(
        DataError, match=r"dataset\.hub_id=nobody/nothing \(revision 0123abc\).*HF_HUB_OFFLINE.*dataset\.path=FILE"
    ):
        source_rows(HUB, "dataset", PathsSpec())


def test_sharded_split_is_read_in_order_and_numbered_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(repo: str, name: str, *, revision: str | None, repo_type: str) -> str:
        asked.append((name, revision))
        (tmp_path / name).write_text(f'{{"question": "{name}"}}\n')
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *a, **k: ["train-1.jsonl", "train-0.jsonl", "x.py"])
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    rows = source_rows(HUB, "dataset", PathsSpec())
    assert [(r.index, r.cells["question"]) for r in rows] == [(0, "train-0.jsonl"), (1, "train-1.jsonl")]
    assert asked == [("train-0.jsonl", "0123abc"), ("train-1.jsonl", "0123abc")]


def _response(code: int) -> object:
    client = __import__(
        next(b for b in errors.HfHubHTTPError.__mro__ if b.__name__ == "HTTPError").__module__.split(".")[0]
    )
    return client.Response(code, request=client.Request("GET", "https://hub.test"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: errors.GatedRepoError("no", response=_response(403)), "gated; ask for access.*HF_TOKEN"),
        (lambda: errors.RepositoryNotFoundError("no", response=_response(404)), "no such data set or revision"),
        (lambda: errors.HfHubHTTPError("no", response=_response(500)), "cannot be reached"),
        (lambda: ConnectionResetError("no"), "cannot be reached"),
        (lambda: errors.HFValidationError("no"), "no such data set"),
    ],
)
def test_hub_failures_are_told_apart(monkeypatch: pytest.MonkeyPatch, error: object, says: str) -> None:
    def fail(*args: object, **kwargs: object) -> list[str]:
        raise error()  # type: ignore[operator]

    monkeypatch.setattr(huggingface_hub, "list_repo_files", fail)
    with pytest.raises(DataError, match=says):
        source_rows(HUB, "dataset", PathsSpec())


def test_bug_in_the_hub_client_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> list[str]:
        raise AttributeError("a bug")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", fail)
    with pytest.raises(AttributeError):
        source_rows(HUB, "dataset", PathsSpec())


def test_hub_without_the_split_lists_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *a, **k: ["dev.csv"])
    with pytest.raises(DataError, match=r"no file for split 'train'; set dataset\.hub_file, there are: dev\.csv"):
        source_rows(HUB, "dataset", PathsSpec())
