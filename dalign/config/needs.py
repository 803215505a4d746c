"""What a job needs beyond well-formed values: files that exist, judges that may be used, parts that fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from dalign.config.attacks import attack_endpoints, attack_models, attack_problems
from dalign.config.controls import control_problems
from dalign.config.judging import all_judges, judge_problems, may_teach, strangers, text_file
from dalign.config.problems import Problem, nearest
from dalign.config.rewards import grpo_problems
from dalign.errors import DataError, did_you_mean
from dalign.layout import ADAPTER_POLICIES, POLICIES
from dalign.specs.data import BenchmarkSpec, DatasetSpec, QuestionsSpec
from dalign.specs.grpo import GrpoStage
from dalign.specs.judge import RERANK, RERANKING, GuardSpec, ServerJudgeSpec, rerank_score, role_of
from dalign.specs.model import HUB_ID, TOY_IDS
from dalign.specs.probe import DIRECTION, PLAIN, variant_of
from dalign.specs.protocol import SCORE_SWITCHES
from dalign.specs.run import RunSpec
from dalign.specs.sampling import ReplayEngine
from dalign.specs.stage import ControlStage, DistillStage, ProbeStage, TracesStage

Verb = Literal["train", "evaluate"]
_EXTRAS = {"gguf": "gguf", "bitsandbytes": "quant", "openai": "server", "wandb": "wandb", "tensorboard": "tensorboard"}


def unmet(spec: RunSpec, verb: Verb, stages: tuple[str, ...]) -> Iterator[Problem]:
    """Every need of the job that is not met, found without loading anything. ``stages`` are those one may choose."""
    yield from _stage(spec, verb, stages)
    yield from _trainer(spec, verb)
    yield from _checkpoints(spec)
    yield from _packages(spec)
    yield from _inputs(spec)
    if isinstance(spec.stage, TracesStage):
        yield from _traces(spec, spec.stage)
    if isinstance(spec.stage, GrpoStage):
        yield from _source(spec, spec.dataset, "dataset")
        yield from grpo_problems(spec, spec.stage)
    if isinstance(spec.stage, ProbeStage):
        yield from _probe(spec, spec.stage)
    if isinstance(spec.stage, ControlStage):
        yield from _adapted(spec.stage.policy)
        yield from control_problems(spec, spec.stage)
    if verb == "evaluate" or isinstance(spec.stage, ProbeStage):
        yield from _benchmarks(spec)
        yield from _sampler(spec)
    if verb == "evaluate":
        yield from _policies(spec)
        yield from _selector(spec)
        yield from _protocol(spec)
    yield from attack_problems(spec, verb)


def _stage(spec: RunSpec, verb: Verb, stages: tuple[str, ...]) -> Iterator[Problem]:
    if verb == "train" and spec.stage is None:
        yield Problem("stage", f"stage is not set: give one of {', '.join(f'stage={name}' for name in stages)}")
    if verb == "evaluate" and spec.stage is not None:
        yield Problem("stage", f"stage={spec.stage.name}: an evaluation has no stage; drop it, or run train.py")


def _trainer(spec: RunSpec, verb: Verb) -> Iterator[Problem]:
    trainer, trains = spec.trainer, verb == "train" and isinstance(spec.stage, DistillStage | GrpoStage)
    told = f"trainer.devices={trainer.devices}"
    if trainer.devices > 1 and not trains:
        yield Problem("trainer.devices", f"{told}: this runs on one device; give trainer.devices=1, or trainer=cpu|gpu")
    elif trainer.devices > trainer.processes:
        ddp = "ddp_cpu" if trainer.accelerator == "cpu" else "ddp"
        yield Problem("trainer.devices", f"{told}: each device needs a process of its own; give trainer={ddp} {told}")
    if trainer.processes > 1 and trainer.accelerator == "auto":
        text = "trainer.accelerator=auto: several processes must agree on what they train on"
        yield Problem("trainer.accelerator", f"{text}; give trainer.accelerator=gpu, or cpu")
    if trainer.processes > 1 and spec.model.device.startswith("cuda:"):
        text = f"model.device={spec.model.device}: each process of trainer={trainer.name} sees one GPU, its own"
        yield Problem("model.device", f"{text}; leave it at auto")


def _checkpoints(spec: RunSpec) -> Iterator[Problem]:
    named = {"model.id": spec.model.id, "model.base": spec.model.base, "teacher.id": spec.teacher.id}
    named |= {f"{key}.id": judge.checkpoint for key, judge in all_judges(spec).items()}
    named |= {f"{key}.id": model.id for key, model in attack_models(spec).items()}
    named |= {"stage.unrelated": spec.stage.unrelated} if isinstance(spec.stage, ControlStage) else {}
    for key, value in named.items():
        if value is not None and value not in TOY_IDS:
            yield from _checkpoint(key, value)


def _checkpoint(key: str, value: str) -> Iterator[Problem]:
    """A checkpoint is there, or its name is that of a hub's model, which only loading can tell."""
    path = Path(value).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        yield Problem(key, f"{key}={value}: the folder has no config.json; name a folder that save_pretrained wrote")
    elif path.is_file() and path.suffix != ".gguf":
        yield Problem(key, f"{key}={value}: a file must be a .gguf; else name a folder or a hub id")
    elif not path.exists() and (path.suffix == ".gguf" or not HUB_ID.fullmatch(value)):
        yield Problem(key, f"{key}={value}: no such file or folder; mend the path, or name a hub id (OWNER/NAME)")


def _packages(spec: RunSpec) -> Iterator[Problem]:
    wanted = {
        "model.id": "gguf" if spec.model.id.endswith(".gguf") else None,
        **{key: "bitsandbytes" for key, quantisation in _quantisations(spec).items() if quantisation == "nf4"},
        **{key: "openai" for key, judge in all_judges(spec).items() if isinstance(judge, ServerJudgeSpec)},
        **dict.fromkeys(attack_endpoints(spec), "openai"),
        "logger": {"csv": None}.get(spec.logger.name, spec.logger.name.partition("_")[0]),
    }
    for key, package in wanted.items():
        if package is not None and find_spec(package) is None:
            remedy = f"pip install 'dalign[{_EXTRAS[package]}]'"
            yield Problem(key, f"{key}: needs the package {package}, which is not installed: {remedy}")


def _quantisations(spec: RunSpec) -> dict[str, str]:
    models = {"model": spec.model, **attack_models(spec)}
    guards = {key: judge for key, judge in all_judges(spec).items() if isinstance(judge, GuardSpec)}
    found = {key: model.quantisation for key, model in models.items()} | {k: g.quantisation for k, g in guards.items()}
    return {f"{key}.quantisation": value for key, value in found.items()}


def _inputs(spec: RunSpec) -> Iterator[Problem]:
    probes = (spec.inputs.probe,) if spec.inputs.probe is not None else ()
    named = [*(("inputs.traces", name) for name in spec.inputs.traces_files), *(("inputs.probe", p) for p in probes)]
    for key, value in named:
        if not Path(value).expanduser().exists():
            yield Problem(key, f"{key}={value}: no such file; mend the path, or drop it to read this run's own")
    adapter = spec.inputs.adapter
    if adapter is None:
        return
    folder = Path(adapter.partition("@")[0]).expanduser()
    if not folder.exists() and not HUB_ID.fullmatch(adapter):
        yield Problem("inputs.adapter", f"inputs.adapter={adapter}: no such folder; mend it, or give HUB_ID@REVISION")


def _traces(spec: RunSpec, stage: TracesStage) -> Iterator[Problem]:
    yield from _source(spec, spec.dataset, "dataset")
    teacher = spec.teacher
    if teacher.kind == "ready_made" and not spec.dataset.has_traces:
        text = f"dataset={spec.dataset.name}: has no ready-made traces, which teacher={teacher.name} takes"
        yield Problem("dataset", f"{text}; choose a dataset with traces or another teacher")
    if teacher.kind == "model" and teacher.id is None:
        yield Problem("teacher.id", "teacher.id is not set: give a hub id or a folder, or take teacher=ready_made")
    if teacher.kind == "model" and teacher.sampler is None:
        yield Problem(
            "teacher.sampler", f"teacher={teacher.name}: has no sampler; add one, as conf/teacher/toy.yaml does"
        )
    judge = spec.judges.get("harm")
    if stage.filter.judge and judge is None:
        text = "judges.harm is not set, and the filter asks it"
        yield Problem("judges.harm", f"{text}: give +judge@judges.harm=NAME, or stage.filter.judge=false")
    elif stage.filter.judge and judge is not None:
        yield from judge_problems(spec)
        yield from may_teach("judges.harm", judge, "filter")


def _probe(spec: RunSpec, stage: ProbeStage) -> Iterator[Problem]:
    judge = spec.judges.get(stage.judge)
    if stage.labels is not None:
        yield from text_file("stage.labels", stage.labels, "a JSONL file of labelled answers, as dalign label reads")
    elif judge is None:
        hint = did_you_mean(stage.judge, list(spec.judges))
        yield Problem("stage.judge", f"stage.judge={stage.judge}: no such key of judges; {hint}")
    else:
        yield from may_teach("stage.judge", judge, "probe")
    yield from _adapted(stage.policy)
    if DIRECTION in stage.methods:
        yield from _source(spec, spec.dataset, "dataset")
    if not stage.labels and not any("harm" in benchmark.roles for benchmark in spec.benchmark.values()):
        yield Problem(
            "benchmark", "benchmark: none asks for a harm judge, whose verdicts are the probe's labels; add one"
        )


def _adapted(policy: str) -> Iterator[Problem]:
    """A stage that compares with a base works on a policy that has one."""
    if policy not in ADAPTER_POLICIES:
        hint = did_you_mean(policy, ADAPTER_POLICIES)
        yield Problem("stage.policy", f"stage.policy={policy}: not a policy with a base; {hint}")


def _benchmarks(spec: RunSpec) -> Iterator[Problem]:
    roles = {role_of(name) for name in spec.judges}
    yield from judge_problems(spec)
    for name, benchmark in spec.benchmark.items():
        yield from _source(spec, benchmark, f"benchmark.{name}")
        if benchmark.questions is not None:
            yield from _source(spec, benchmark.questions, f"benchmark.{name}.questions")
        for role in benchmark.roles:
            if role not in roles:
                text = f"benchmark.{name}: asks for a judge of {role}, and there is none"
                yield Problem(f"judges.{role}", f"{text}: give +judge@judges.{role}=NAME")
        if benchmark.format != "toy":
            yield from strangers(spec, name, benchmark)


def _source(spec: RunSpec, source: BenchmarkSpec | DatasetSpec | QuestionsSpec, key: str) -> Iterator[Problem]:
    if source.format in ("toy", "toy_requests"):
        return
    if source.path is None:
        if source.hub_id is None:
            yield Problem(f"{key}.path", f"{key}: has neither a path nor a hub id; give {key}.path=FILE")
        return
    from dalign.prompts.sources import local_source

    try:
        local_source(source, source.path, key, spec.paths)
    except DataError as error:
        yield Problem(f"{key}.path", str(error))


def _sampler(spec: RunSpec) -> Iterator[Problem]:
    engine = spec.sampler.engine
    if isinstance(engine, ReplayEngine) and not Path(engine.path).expanduser().exists():
        yield Problem("sampler.engine.path", f"sampler.engine.path={engine.path}: no such file or run folder")


def _policies(spec: RunSpec) -> Iterator[Problem]:
    if not spec.policies:
        yield Problem("policies", f"policies=[]: the list is empty; name at least one of {', '.join(POLICIES)}")
    for name in spec.policies:
        if name not in POLICIES:
            yield Problem("policies", f"policies: there is no policy {name!r}; {nearest(name, POLICIES)}")
    if len(set(spec.policies)) < len(spec.policies):
        yield Problem("policies", f"policies=[{','.join(spec.policies)}]: names one twice; drop it")


def _selector(spec: RunSpec) -> Iterator[Problem]:
    from dalign.select import REFUSAL, SELECTORS

    score, layer = spec.selector.score, spec.selector.layer
    score_of_probe = (score,) if variant_of(score, spec.attribution.position) else ()
    layered = (*spec.attribution.layered, PLAIN, *score_of_probe)
    rerank = {key: judge for key, judge in spec.judges.items() if role_of(key) == RERANK}
    named = [rerank_score(judge.name, judge.kind, part) for judge in rerank.values() for part in judge.parts]
    known = [*layered, *spec.attribution.flat, REFUSAL, *named, *SELECTORS]
    if score not in known:
        hint = did_you_mean(score, known)
        no = "no judge gives it" if score.startswith(RERANKING) else "attribution does not compute it"
        yield Problem("selector.score", f"selector.score={score}: {no}; {hint}")
    elif isinstance(layer, int | tuple) and score not in layered:
        text = f"selector.layer={_shown(layer)}: the score {score!r} has no layers"
        yield Problem("selector.layer", f"{text}; leave it at auto")
    if score == "until_safe" and not any(hasattr(judge, "threshold") for judge in rerank.values()):
        text = "selector.score=until_safe: no judge says when a sample will do"
        yield Problem("selector.score", f"{text}; give +judge@judges.rerank=NAME, a guard")
    asked = spec.attribution.layers
    if isinstance(layer, int | tuple) and asked is not None and score in spec.attribution.layered:
        wanted = range(layer[0], layer[1] + 1) if isinstance(layer, tuple) else (layer,)
        if lacking := [one for one in wanted if one not in asked]:
            which = "" if isinstance(layer, int) else f": {lacking}"
            text = f"selector.layer={_shown(layer)}{which} is none of attribution.layers={list(asked)}"
            yield Problem("selector.layer", f"{text}; add it there")


def _shown(layer: int | tuple[int, int]) -> str:
    return str(list(layer)) if isinstance(layer, tuple) else str(layer)


def _protocol(spec: RunSpec) -> Iterator[Problem]:
    protocol = spec.protocol
    named = [switch for switch in protocol.switches if switch in SCORE_SWITCHES]
    if named and "similarity" not in spec.attribution.layered:
        text = f"protocol.switches: {', '.join(named)} are about the similarity, which attribution does not compute"
        yield Problem("protocol.switches", f"{text}; add it to attribution.layered, or leave them out")
    if protocol.prefill and not any(benchmark.prefill for benchmark in spec.benchmark.values()):
        text = "protocol.prefill: none of the benchmarks has words to begin the answer with"
        yield Problem("protocol.prefill", f"{text}; add one that has (gsm8k, mmlu), or give benchmark.NAME.prefill=")
