"""A killed stage continues, a changed one is refused, and nothing torn is ever read as whole."""

from __future__ import annotations

import json
import multiprocessing
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest

from dalign.errors import ArtifactError
from dalign.files import read_records, read_tensors, write_json, write_records, write_tensors
from dalign.records import Prompt, Scores, Verdict
from dalign.store import ChunkLog, StageFolder, differences, run_chunks


def prompt(row: int) -> Prompt:
    return Prompt(dataset="d", row=str(row), text=f"how do i bake bread {row}", kind="benign", group=str(row))


def folder(path: Path, **results: object) -> StageFolder:
    return StageFolder(path, config={"model": {"dtype": "float32"}}, results=results or {"lr": 1}, inputs={"a": "1"})


def test_chunks_survive_a_torn_tail(tmp_path: Path) -> None:
    log = ChunkLog(tmp_path / "p.jsonl", Prompt)
    log.commit("0", [prompt(0), prompt(1)])
    whole = (tmp_path / "p.jsonl").read_bytes()
    log.commit("1", [prompt(2)])
    full = (tmp_path / "p.jsonl").read_bytes()
    for cut in range(len(whole), len(full)):
        (tmp_path / "p.jsonl").write_bytes(full[:cut])
        again = ChunkLog(tmp_path / "p.jsonl", Prompt)
        assert list(again.done) == ["0"]
        again.commit("1", [prompt(2)])
        assert (tmp_path / "p.jsonl").read_bytes() == full


def test_a_committed_chunk_is_not_done_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def work(i: int) -> list[Prompt]:
        calls.append(i)
        if calls == [0, 1]:
            raise RuntimeError("killed")
        return [prompt(i)]

    plan = {str(i): (lambda i=i: work(i)) for i in range(3)}
    with pytest.raises(RuntimeError):
        run_chunks(ChunkLog(tmp_path / "p.jsonl", Prompt), plan)
    records = run_chunks(ChunkLog(tmp_path / "p.jsonl", Prompt), plan)
    assert calls == [0, 1, 1, 2]
    assert [r.row for r in records] == ["0", "1", "2"]


def test_a_duplicated_chunk_is_refused(tmp_path: Path) -> None:
    log = ChunkLog(tmp_path / "p.jsonl", Prompt)
    log.commit("0", [prompt(0)])
    with pytest.raises(ValueError, match="committed already"):
        log.commit("0", [prompt(0)])
    path = tmp_path / "p.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ArtifactError, match="damaged"):
        ChunkLog(path, Prompt)


@pytest.mark.parametrize(
    ("good", "bad"), [(b'"row"', b'"rwo"'), (b'"n": 1', b'"m": 1'), (b'{"commit": "0"', b'{"commit": ["0"]')]
)
def test_a_damaged_chunk_is_told_and_not_a_traceback(tmp_path: Path, good: bytes, bad: bytes) -> None:
    path = tmp_path / "p.jsonl"
    ChunkLog(path, Prompt).commit("0", [prompt(0)])
    data = path.read_bytes()
    assert good in data
    path.write_bytes(data.replace(good, bad))
    with pytest.raises(ArtifactError, match=r"p\.jsonl.*damaged.*delete the file"):
        ChunkLog(path, Prompt)
    assert path.read_bytes() == data.replace(good, bad)


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    with folder(tmp_path / "s", lr=1, seed=0):
        pass
    with pytest.raises(ArtifactError, match=r"results\.lr: 1 -> 2") as caught, folder(tmp_path / "s", lr=2, seed=0):
        pass
    assert "seed" not in str(caught.value)


def test_two_commands_on_one_folder(tmp_path: Path) -> None:
    with folder(tmp_path / "s"), pytest.raises(ArtifactError, match="another command"), folder(tmp_path / "s"):
        pass
    with folder(tmp_path / "s"):
        pass


def _hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    with folder(path):
        ready.set()
        ready.wait()
        multiprocessing.Event().wait(60)


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "s", ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(ArtifactError), folder(tmp_path / "s"):
        pass
    process.kill()
    process.join()
    with folder(tmp_path / "s") as stage:
        assert not stage.finished


def test_what_a_killed_write_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".samples.parquet.4711.tmp").write_text("half")
    with folder(tmp_path / "s") as stage:
        assert [p.name for p in stage.path.glob(".*")] == []


def test_finished_means_all_files_whole(tmp_path: Path) -> None:
    with folder(tmp_path / "s") as stage:
        (stage.path / "out.txt").write_text("hello")
        assert not stage.finished
        stage.finish(["out.txt"], rows=1)
        assert stage.finished
        (stage.path / "out.txt").write_text("hell")
        with pytest.raises(ArtifactError, match="cut short"):
            _ = stage.finished


def test_records_round_trip_through_parquet(tmp_path: Path) -> None:
    rows = [prompt(0), Prompt("d", "1", "two\nlines", "math", "g", ("a", "b"), "18", "half")]
    write_records(tmp_path / "p.parquet", rows)
    assert read_records(tmp_path / "p.parquet", Prompt) == rows
    verdicts = [
        Verdict("s", "j", "answer", "graded", None, "", {"strict": True}),
        Verdict("s", "j", "answer", "safe", 1e-05),
    ]
    write_records(tmp_path / "v.parquet", verdicts)
    assert read_records(tmp_path / "v.parquet", Verdict) == verdicts
    with pytest.raises(ArtifactError, match="holds Verdict"):
        read_records(tmp_path / "v.parquet", Prompt)
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "v.parquet").read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="not readable"):
        read_records(tmp_path / "torn.parquet", Verdict)


def test_empty_and_layered_records(tmp_path: Path) -> None:
    write_records(tmp_path / "e.parquet", [])
    assert read_records(tmp_path / "e.parquet", Prompt) == []
    scores = [Scores("s", "b", {"similarity": [1.0, 0.5]}, {"kl": 1e-05}), Scores("t", "b", error="too long")]
    write_records(tmp_path / "s.parquet", scores)
    assert read_records(tmp_path / "s.parquet", Scores) == scores


def test_tensors_come_back_whatever_their_memory_order(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = {"plain": values, "transposed": values.T, "strided": values[:, ::2], "fortran": np.asfortranarray(values)}
    write_tensors(tmp_path / "t.safetensors", views, {"n": 1, "ids": ["b", "a"]})
    tensors, facts = read_tensors(tmp_path / "t.safetensors")
    assert facts == {"n": 1, "ids": ["b", "a"]}
    for name, view in views.items():
        assert tensors[name].tolist() == view.tolist(), name
    whole = (tmp_path / "t.safetensors").read_bytes()
    write_tensors(tmp_path / "u.safetensors", dict(reversed(views.items())), {"ids": ["b", "a"], "n": 1})
    assert (tmp_path / "u.safetensors").read_bytes() == whole
    (tmp_path / "t.safetensors").write_bytes(whole[:-8])
    with pytest.raises(ArtifactError, match="not readable"):
        read_tensors(tmp_path / "t.safetensors")


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_missing_fields_are_refused() -> None:
    row = json.loads(json.dumps(prompt(0).to_dict()))
    with pytest.raises(ValueError, match="unknown field"):
        Prompt.from_dict({**row, "extra": 1})
    del row["kind"]
    with pytest.raises(ValueError, match="missing field"):
        Prompt.from_dict(row)
    with pytest.raises(ValueError, match="schema 2"):
        Prompt.from_dict({**row, "schema": 2})


def test_an_unscored_verdict_has_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        Verdict("s", "j", "answer", "unscored")
    with pytest.raises(ValueError, match="reason"):
        Verdict("s", "j", "answer", "safe", reason="because")


def test_differences_name_the_dotted_keys() -> None:
    old = {"a": {"b": 1, "c": {}}, "d": [1], "e": 0}
    assert differences(old, {"a": {"b": 1, "c": {}}, "d": (1,), "e": 0}) == ""
    told = differences(old, {"a": {"b": 2, "c": {"x": 3}}, "d": [1, 2]})
    assert told.splitlines() == [
        "  a.b: 1 -> 2",
        "  a.c: {} -> 'absent'",
        "  a.c.x: 'absent' -> 3",
        "  d: [1] -> [1, 2]",
        "  e: 0 -> 'absent'",
    ]


def test_scores_that_are_no_numbers_survive_a_log(tmp_path: Path) -> None:
    lacking = {"similarity_think": "no closing tag"}
    one = Scores("s", "b", {"similarity": [1.0, nan, 0.25]}, {"ppl_student": inf, "kl": 0.5}, lacking=lacking)
    ChunkLog(tmp_path / "log.jsonl", Scores).commit("a", [one])
    (back,) = ChunkLog(tmp_path / "log.jsonl", Scores).done["a"]
    assert [back.layered["similarity"][0], back.layered["similarity"][2]] == [1.0, 0.25]
    assert isnan(back.layered["similarity"][1])
    assert (back.flat, back.lacking) == ({"ppl_student": inf, "kl": 0.5}, lacking)
