"""Every YAML composes and passes the check, so does every command line that the documents show, also from a wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dalign.cli import COMMANDS
from dalign.config import check, config_dir
from dalign.demo import STEPS
from dalign.errors import ConfigError
from dalign.specs.attack import PairSpec
from dalign.specs.model import TOY_IDS
from dalign.specs.run import RunSpec

ROOT = Path(__file__).parents[1]
CONF = config_dir()
# One entry of each is taken at a time; what an entry needs beside its name stands in NEEDS.
GROUPS = ("model", "teacher", "dataset", "sampler", "sampler/engine", "selector", "protocol", "trainer", "logger")
NEEDS = {
    "model=hf": ["model.id=owner/name"],
    "dataset=local": ["dataset.path=FILE"],
    "selector=distance": ["attribution=readouts"],
    "selector=until_safe": ["+judge@judges.rerank=toy_guard", "judges.rerank.name=guard"],
    "sampler/engine=replay": ["sampler.engine.path=FILE"],
    **{f"trainer={name}": ["trainer.devices=1"] for name in ("ddp", "ddp_cpu")},  # several are for training alone
}
JUDGE_NEEDS = {
    **{key: ["of=[harm_toy-guard,harm_llama-guard3]"] for key in ("any", "all", "majority")},
    **{key: ["endpoint.url=http://localhost/v1", "endpoint.model=m"] for key in ("server", "rubric", "rating")},
    **{key: ["template=FILE"] for key in ("wildguard", "harmbench")},
    "reward": ["id=owner/name"],
}
ROLES = dict.fromkeys(("reward", "self", "toy_self"), "rerank")  # of judges that are for no other
# What attacks need besides their names; those of real models run on a benchmark and judges from outside the world.
CHAT = [
    f"attack.{who}.endpoint.{key}" for who in ("attacker", "judge") for key in ("url=http://localhost/v1", "model=m")
]
ATTACK_NEEDS = {"pair": CHAT, "selector": ["judge@attack.judge=llama_guard3", "benchmark=[strongreject]"]}
# Files that an entry of the first group takes in for the entry of the second that they are named after.
NAMED_AFTER = {
    "sampler/by_model": "model",
    "stage/distill_by_model": "model",
    "stage/grpo_by_model": "model",
    "stage/traces_by_teacher": "teacher",
    "stage/control_by_model": "model",
}
STUDIES = ("experiment", "debug")
NO_TOY_JUDGES = ["judge@judges.harm=phrases", "judge@judges.refusal=phrases", "~judge@judges.harm_truth"]
WITHOUT_A_GUARD = ("experiment=smollm2_star1",)
STAGES = ("traces", "distill", "grpo", "probe", "control", "pretrain")
PLACEHOLDERS = {
    "SEED": "4",
    "NAME": "xstest",
    "DATA": "data",
    "DIR": "out",
    "ORG/MODEL": "owner/name",
    "MODEL": "owner/name",
}
# Words before the overrides, and the options of small commands with the number of their values.
TAKES = {"export": 1, "import": 1, "score": 1, "try": 1, "label": 2, "judge-audit": 1, "report": 1}
OPTIONS = dict.fromkeys(("-n", "--json", "--out", "--dtype", "--policy", "--benchmark"), 1) | dict.fromkeys(
    ("--read", "--pool"), 0
)
COMMAND = re.compile(r"(?:python (?P<script>train|evaluate)\.py|dalign (?P<name>[a-z-]+))\b(?P<rest>.*)")


def entries(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``data/`` laid out like the benchmarks' files, all empty: only presence is checked."""
    for group in ("benchmark", "dataset"):
        for file in (CONF / group).glob("*.yaml"):
            node = yaml.safe_load(file.read_text(encoding="utf-8"))
            for path in (node.get("path"), node.get("questions", {}).get("path")):
                if path and path != "???":
                    (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / "data" / path).touch()
    for name in ("FILE", "TRACES"):
        (tmp_path / name).touch()
    for seed in (0, int(PLACEHOLDERS["SEED"])):  # what the studies on other students take from runs
        demo, back = tmp_path / f"runs/demo-{seed}", tmp_path / f"runs/reversed-{seed}"
        for file in (demo / "merged/config.json", demo / "traces/traces.parquet", back / "traces/traces.parquet"):
            file.parent.mkdir(parents=True)
            file.touch()
    (tmp_path / "ADAPTER").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one(verb: str, *argv: str) -> RunSpec:
    (spec,) = check(verb, argv)  # type: ignore[arg-type]
    return spec


@pytest.mark.parametrize("turn", range(max(len(entries(group)) for group in GROUPS)))
def test_every_entry_of_a_group_passes(turn: int) -> None:
    chosen = [f"{group}={names[turn % len(names)]}" for group in GROUPS if (names := entries(group))]
    needed = [extra for choice in chosen for extra in NEEDS.get(choice, [])]
    spec = one("evaluate", *chosen, *needed)
    names = [spec.model.name, spec.teacher.name, spec.dataset.name, spec.sampler.name, spec.sampler.engine.kind]
    names += [spec.selector.name, spec.protocol.name, spec.trainer.name, spec.logger.name]
    assert names == [choice.partition("=")[2] for choice in chosen]


@pytest.mark.parametrize("stage", ["distill", "grpo"])
def test_every_trainer_trains(stage: str) -> None:
    found = {name: one("train", f"stage={stage}", f"trainer={name}").trainer for name in entries("trainer")}
    assert {name: (trainer.accelerator, trainer.processes) for name, trainer in found.items()} == {
        "cpu": ("cpu", 1),
        "gpu": ("gpu", 1),
        "ddp": ("gpu", 2),
        "ddp_cpu": ("cpu", 2),
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("stage=distill", "trainer=gpu", "trainer.devices=4"), "give trainer=ddp trainer.devices=4"),
        (("stage=grpo", "trainer.devices=2"), "give trainer=ddp_cpu trainer.devices=2"),
        (("stage=distill", "trainer=ddp", "model.device=cuda:1"), "model.device=cuda:1: each process of trainer=ddp"),
        (("stage=distill", "trainer=ddp", "trainer.accelerator=auto"), "give trainer.accelerator=gpu, or cpu"),
        (("stage=probe", "trainer=ddp"), "trainer.devices=2: this runs on one device"),
    ],
)
def test_several_devices_are_told_how(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        one("train", *words)


def test_every_benchmark_judge_and_attribution_passes() -> None:
    spec = one("evaluate", f"benchmark=[{','.join(entries('benchmark'))}]", *NO_TOY_JUDGES)
    assert sorted(benchmark.name for benchmark in spec.benchmark.values()) == entries("benchmark")
    keys = {name: f"{ROLES.get(name, 'harm')}_{name.replace('_', '-')}" for name in entries("judge")}
    judges = [f"+judge@judges.{key}={name}" for name, key in keys.items()]
    needed = [f"judges.{keys[name]}.{value}" for name, values in JUDGE_NEEDS.items() for value in values]
    assert {judge.name for judge in one("evaluate", *judges, *needed).judges.values()} >= set(entries("judge"))
    for name in entries("attribution"):
        assert one("evaluate", f"attribution={name}").attribution.name == name


@pytest.mark.parametrize("name", entries("attack"))
def test_every_attack_passes_by_every_attacker(name: str) -> None:
    world = name.startswith("toy_")
    assert one("evaluate", f"attack={name}", *ATTACK_NEEDS.get(name, []), *([] if world else NO_TOY_JUDGES)).attack
    for attacker in entries("attack/attacker") if "pair" in name else ():
        if attacker == "world" and not world:
            continue
        needed = ["attack.attacker.model.id=owner/name"] if attacker == "model" else []
        needed += CHAT[:2] if attacker == "server" else []
        needed += [] if world else [*CHAT[2:], *NO_TOY_JUDGES]
        spec = one("evaluate", f"attack={name}", f"attack/attacker={attacker}", *needed)
        assert isinstance(spec.attack, PairSpec)
        assert (spec.attack.attacker.kind, spec.attack.iterations) == (attacker, 8)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("study", [None, *(f"{group}={name}" for group in STUDIES for name in entries(group))])
def test_every_stage_passes_in_every_study(stage: str, study: str | None) -> None:
    if stage in ("probe", "control", "grpo") and study in WITHOUT_A_GUARD:
        with pytest.raises(
            ConfigError, match=f"which finds no harm; a {stage.replace('grpo', 'reward')} needs a guard"
        ):
            one("train", f"stage={stage}", str(study))
        return
    spec = one("train", f"stage={stage}", *([study] if study else []))
    assert spec.stage is not None
    assert spec.stage.name == stage


def test_a_study_wins_over_the_defaults_and_the_command_line_over_a_study() -> None:
    tiny = one("evaluate", "debug=tiny")
    assert (tiny.run, tiny.limit, tiny.sampler.n, tiny.sampler.temperature) == ("debug", 8, 2, 0.7)
    demo = one("evaluate", "experiment=demo")
    assert (demo.run, demo.policies) == ("demo", ("teacher", "base", "distill"))
    assert one("evaluate", "experiment=demo", "run=mine", "limit=2").run == "mine"


def test_no_file_is_left_out_here() -> None:
    assert sorted(STAGES) == entries("stage")
    covered = {
        *GROUPS,
        *NAMED_AFTER,
        *STUDIES,
        "attack",
        "attack/attacker",
        "attribution",
        "benchmark",
        "judge",
        "stage",
        ".",
    }
    found = {file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")}
    assert found == covered
    for group, other in NAMED_AFTER.items():
        assert set(entries(group)) <= set(entries(other)), group


@pytest.mark.parametrize(("group", "least"), [("model", 7), ("teacher", 7), ("judge", 4)])
def test_hub_models_are_pinned_to_a_commit(group: str, least: int) -> None:
    nodes = [yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")) for name in entries(group)]
    here = (None, "???", *TOY_IDS, "${paths.runs}/demo-${world_seed}/merged")
    named = {node["id"]: node["revision"] for node in nodes if node.get("id") not in here}
    assert len(named) >= least
    assert [name for name, commit in named.items() if not re.fullmatch(r"[0-9a-f]{40}", commit or "")] == []


def test_hub_benchmarks_are_pinned_to_a_commit() -> None:
    nodes = [
        yaml.safe_load((CONF / f"benchmark/{name}.yaml").read_text(encoding="utf-8")) for name in entries("benchmark")
    ]
    nodes += [node["questions"] for node in nodes if "questions" in node]
    pinned = {node["hub_id"]: node.get("revision") for node in nodes if "hub_id" in node}
    assert len(pinned) == 7
    assert [name for name, commit in pinned.items() if not re.fullmatch(r"[0-9a-f]{40}", commit or "")] == []


def test_the_papers_settings() -> None:
    spec = one("train", "experiment=paper_sft", "stage=distill")
    lora, stage, sampler = spec.model.lora, spec.stage, spec.sampler
    assert stage is not None
    assert stage.name == "distill"
    assert (lora.r, lora.alpha, lora.dropout) == (32, 64, 0.05)
    assert (lora.targets, lora.modules_to_save) == (("q_proj", "v_proj"), ("lm_head",))
    assert (stage.lr, stage.batch, stage.epochs, stage.max_length, stage.max_steps) == (1.41e-5, 16, 3, 2048, None)
    assert (sampler.n, sampler.temperature, sampler.top_p, sampler.repetition_penalty) == (8, 0.7, 1.0, 1.0)
    assert (sampler.max_new_tokens, spec.model.dtype) == (2048, "bfloat16")


def documented() -> Iterator[tuple[str, str]]:
    """(place, command) of every command line in a code block of the documents, and of each study's header."""
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"^```\w*\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                text = line.strip().removeprefix("$ ")
                if COMMAND.match(text) and not re.search(r"\.\.\.|…|<", text):
                    yield file.name, text
    for group in STUDIES:
        for name in entries(group):
            header = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[1]
            yield f"{group}/{name}", header.removeprefix("# ")
    yield from (("demo", f"dalign {shlex.join(words)}") for _, words in STEPS)


@pytest.mark.parametrize(("where", "command"), [pytest.param(*found, id=found[1]) for found in documented()])
def test_every_documented_command_line_passes(where: str, command: str) -> None:
    found = COMMAND.match(command)
    assert found is not None, f"{where}: a header must begin with its command"
    name = found["script"] or found["name"]
    words = [_filled(word) for word in shlex.split(found["rest"], comments=True)]
    assert name in COMMANDS
    if name == "power":  # it takes no configuration, and no time
        assert COMMANDS[name][1](words) == 0
        return
    words = _without_options(name, words)
    verb = name if name in ("train", "evaluate") else "evaluate"
    overrides = [word for word in words if "=" in word or word.startswith(("-", "~"))]
    assert len(words) - len(overrides) == TAKES.get(name, 0) or name == "report"
    assert check(verb, overrides)  # type: ignore[arg-type]


def _without_options(name: str, words: list[str]) -> list[str]:
    """The words without a small command's own options and their values."""
    if name not in TAKES:
        return words
    for option, values in OPTIONS.items():
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 1 + values :]
    return words


def _filled(word: str) -> str:
    for name, value in PLACEHOLDERS.items():
        word = re.sub(rf"(?<![\w/]){name}\b", value, word)
    return word


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked in a folder away from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_a_wheel_holds_the_configuration_and_finds_it_from_any_folder(installed: Path, place: Path) -> None:
    packed = installed / "dalign" / "_conf"
    for file in (
        "report/published_rows.csv",
        "judge/instructions/rubric.md",
        "attack/instructions/attacker.md",
        "traces/policies/benign.md",
    ):
        assert (installed / "dalign" / file).is_file()
    files = sorted(file.relative_to(CONF) for file in CONF.rglob("*.yaml"))
    assert sorted(file.relative_to(packed) for file in packed.rglob("*.yaml")) == files
    assert all((packed / file).read_bytes() == (CONF / file).read_bytes() for file in files)
    code = (
        "from dalign.cli import main; from dalign.config import check, config_dir\n"
        "print(config_dir(), check('train', ['stage=traces'])[0].teacher.id)\n"
        "raise SystemExit(main(['train', '--cfg', 'job', 'model.lora.r=3']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{packed} toy\n")
    assert "r: 3" in done.stdout
