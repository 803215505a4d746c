"""The commands: exit codes, messages without tracebacks, what Hydra is let to do, and that nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dalign import cli, doctor, launch
from dalign.errors import DataError, guarded
from dalign.specs.run import RunSpec


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, RunSpec]]:
    """The jobs that were started, in an empty working folder; a job with seed 13 fails."""
    started: list[tuple[str, RunSpec]] = []

    def run_job(spec: RunSpec, verb: str) -> int:
        started.append((verb, spec))
        return 2 if spec.seed == 13 else 0

    monkeypatch.setattr(launch, "run_job", run_job)
    monkeypatch.chdir(tmp_path)
    return started


def test_a_job_gets_the_spec_that_was_checked(jobs: list[tuple[str, RunSpec]], tmp_path: Path) -> None:
    assert cli.train(["stage=distill", "model.lora.r=4", "run=a/b=1", "model.base=some/model"]) == 0
    ((verb, spec),) = jobs
    assert (verb, spec.run, spec.model.lora.r, spec.model.base) == ("train", "a/b=1", 4, "some/model")
    assert spec.stage is not None
    assert spec.command == ("stage=distill", "model.lora.r=4", "run='a/b=1'", "model.base=some/model")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_runs_every_job_and_leaves_no_file_of_hydras(
    jobs: list[tuple[str, RunSpec]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.evaluate(["-m", "seed=1,13,2", "run=study"]) == 1
    assert [(verb, spec.run, spec.seed) for verb, spec in jobs] == [
        ("evaluate", "study/seed=1", 1),
        ("evaluate", "study/seed=13", 13),
        ("evaluate", "study/seed=2", 2),
    ]
    assert list(tmp_path.iterdir()) == []
    assert "3 jobs, 1 failed" in capsys.readouterr().out


def test_a_bad_command_line_starts_nothing_and_exits_with_2(
    jobs: list[tuple[str, RunSpec]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "stage=distill", "model=toi", "model.lora.r=eight"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: 2 problems in the configuration:\n  1. model=toi")
    assert "Traceback" not in told
    assert jobs == []


def test_showing_the_configuration_runs_nothing(
    jobs: list[tuple[str, RunSpec]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.train(["--cfg", "job", "model.lora.r=4"]) == 0
    assert "r: 4" in capsys.readouterr().out
    assert cli.train(["--cfg", "job", "model=toi"]) == 2
    assert jobs == []


def test_a_fault_inside_a_command_is_one_message_and_a_bug_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    def fault() -> int:
        raise DataError("rows.jsonl:3: torn")

    def bug() -> int:
        raise KeyError("x")

    def interrupt() -> int:
        raise KeyboardInterrupt

    assert guarded(fault) == 2
    assert capsys.readouterr().err == "error: rows.jsonl:3: torn\n"
    assert guarded(interrupt) == 130
    with pytest.raises(KeyError):
        guarded(bug)


def test_an_unknown_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["trian"])
    assert caught.value.code == 2
    assert "there is no command 'trian'; did you mean 'train'?" in capsys.readouterr().err


def test_a_report_of_no_run_names_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "nowhere", f"paths.runs={tmp_path}"]) == 2
    assert f"nowhere: no run with an evaluate/ folder, neither {tmp_path / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["seed1"], ["run=seed1"], ["+run=seed1"], ["seed1", "run=seed1"]])
def test_a_report_takes_a_run_by_place_or_by_key(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seed1" / "evaluate").mkdir(parents=True)
    written: list[Path] = []
    paths = SimpleNamespace(report=tmp_path, index_html=tmp_path)
    monkeypatch.setattr("dalign.reporting.write_report", lambda folder, **_: written.append(folder) or paths)
    monkeypatch.setattr("dalign.reporting.print_summary", lambda *_: None)
    assert cli.main(["report", *words, f"paths.runs={tmp_path}"]) == 0
    assert written == [tmp_path / "seed1"]


def test_a_report_of_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", f"paths.runs={tmp_path}", "selector=kl"]) == 2
    assert capsys.readouterr().err.startswith("error: no run is named; give one's name below paths.runs")
    assert cli.main(["report", "run=nowhere", f"paths.runs={tmp_path}"]) == 2
    assert f"neither {tmp_path / 'nowhere'}" in capsys.readouterr().err


def test_try_of_nothing_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["try", ""]) == 2
    assert capsys.readouterr().err == "error: the prompt is empty; give one user turn, in quotes\n"


def test_doctor_tells_its_own_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", "--nope"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: dalign doctor ")
    assert "unrecognized arguments: --nope" in told


def test_doctor_never_shows_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = list(doctor.hub())
    assert [f.found for f in found if f.what == "tokens"] == ["HF_TOKEN set, WANDB_API_KEY not set"]
    assert "hf_secret" not in repr(found)


def test_doctor_asks_no_hub_when_offline_and_warns_where_none_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(doctor, "status_of", lambda url, token: asked.append(url))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert {f.state for f in doctor.hub()} == {"ok"}
    assert asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert [f.state for f in doctor.hub()] == ["ok", "warn"]
    assert len(asked) == 1


def test_doctor_tells_gated_models_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(doctor, "status_of", lambda url, token: 401 if "meta-llama" in url else 200)
    states = {f.what: f.state for f in doctor.hub()}
    assert states["google/gemma-3-1b-it"] == "ok"
    assert states["meta-llama/Llama-3.2-1B-Instruct"] == "warn"


@pytest.mark.parametrize(("found", "state"), [("2.6.6", "ok"), ("2.6.2", "fail"), ("2.6.3", "fail"), ("2.5.0", "fail")])
def test_doctor_knows_the_malicious_uploads(monkeypatch: pytest.MonkeyPatch, found: str, state: str) -> None:
    monkeypatch.setattr(doctor, "_declared", lambda: ["lightning>=2.6.1,!=2.6.2,!=2.6.3,<3"])
    monkeypatch.setattr(doctor, "version", lambda name: found)
    (finding,) = doctor.packages()
    assert finding.state == state
    assert ("malicious" in finding.found) == (found in ("2.6.2", "2.6.3"))


def test_doctor_fails_where_it_must(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bad = doctor.Finding("fail", "torch", "[missing]", "install it")
    monkeypatch.setattr(doctor, "examine", lambda runs, data: iter([bad]))
    assert doctor.main([]) == 1
    assert "[missing]" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda runs, data: iter([doctor.Finding("warn", "hub", "away")]))
    assert doctor.main([]) == 0
