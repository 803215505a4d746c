"""stage=grpo on the embedded world: from an adapter to another, killed and not; evaluated as a policy; refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipeline import GRPO, final_files, noisy_student, run, run_and_kill, spec_of

from dalign.errors import ArtifactError, ConfigError
from dalign.files import read_json
from dalign.specs.grpo import GrpoStage


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return noisy_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, adapter: str) -> Path:
    runs = tmp_path_factory.mktemp("calm")
    run("train", runs, *GRPO, adapter)
    return runs


def test_rows_have_every_reward_and_the_adapter_has_moved(calm: Path) -> None:
    (folder,) = calm.glob("*/grpo")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert [row["step"] for row in rows if "validation_reward" in row] == [0, 2, 3]
    for name in ("safe", "correct", "complied", "finished"):
        assert any(row.get(f"reward/{name}") is not None for row in rows), name
    assert read_json(folder / "manifest.json")["rollouts"] == 3
    assert set(read_json(folder / "inputs.json")["inputs"]) >= {"prompts", "base", "adapter", "judge harm"}


def test_a_killed_stage_ends_with_the_files_of_an_undisturbed_one(calm: Path, tmp_path: Path, adapter: str) -> None:
    def saved() -> bool:
        return any(tmp_path.glob("*/grpo/checkpoints/*.ckpt"))

    run_and_kill("train", tmp_path, *GRPO, adapter, when=saved)
    assert not any(tmp_path.glob("*/grpo/manifest.json"))
    run("train", tmp_path, *GRPO, adapter)
    (cut,), (whole,) = tmp_path.glob("*/grpo"), calm.glob("*/grpo")
    assert final_files(cut / "adapter") == final_files(whole / "adapter")


def test_the_policy_is_evaluated_under_its_name(calm: Path) -> None:
    run(
        "evaluate",
        calm,
        "policies=[grpo]",
        "limit=2",
        "sampler.n=2",
        "sampler.max_new_tokens=16",
        "benchmark=[toy_dan]",
    )
    (cell,) = calm.glob("*/evaluate/grpo/toy_dan")
    assert read_json(cell / "manifest.json")["files"]


def test_it_starts_from_the_distilled_adapter_alone(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="run stage=distill first"):
        run("train", tmp_path, *GRPO)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stage.rewards.safe.judge=harm_truth", "which knows what no reward may know"),
        ("stage.rewards.safe.judge=harmm", "no such key of judges"),
        ("stage.rewards.correct.judge=refusal", "needs a judge of answers"),
        ("sampler.top_p=0.9", "sampler.top_p=0.9: stage=grpo learns from samples of the policy itself"),
        ("sampler.temperature=0", "teach nothing"),
    ],
)
def test_what_it_refuses_before_it_loads_anything(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        spec_of("train", tmp_path, "stage=grpo", "stage.temperature=null", override)


def test_rollouts_have_a_temperature_of_their_own(tmp_path: Path) -> None:
    spec = spec_of("train", tmp_path, "stage=grpo", "sampler.temperature=0", "stage.temperature=0.9")
    assert isinstance(spec.stage, GrpoStage)
    assert spec.stage.rollouts_of(spec.sampler) == spec.sampler.model_copy(update={"temperature": 0.9})
    as_sampled = spec_of("train", tmp_path, "stage=grpo", "stage.temperature=null", "sampler.temperature=0.8")
    assert isinstance(as_sampled.stage, GrpoStage)
    assert as_sampled.stage.rollouts_of(as_sampled.sampler) == as_sampled.sampler
