"""The policies an evaluation compares: teacher, base, and the adapters put on the base; and how each is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dalign.adapters import checkpoint_hash
from dalign.errors import ArtifactError, ConfigError, did_you_mean
from dalign.files import read_json
from dalign.layout import ADAPTER_POLICIES, POLICIES, adapter_of
from dalign.models import LoadedModel, load_model, resolve_source
from dalign.records import Prompt, digest
from dalign.specs.model import TOY_IDS, ModelSpec, ThinkSpec
from dalign.specs.run import RunSpec
from dalign.specs.stage import TeacherSpec


@dataclass(frozen=True)
class Policy:
    """A model that answers prompts. ``think``: they ask for reasoning; ``prefill``: how they begin the answer."""

    name: str
    loaded: LoadedModel
    think: bool
    ask: Callable[[Prompt], tuple[int, ...]]
    prefill: str = ""


def load_policy(spec: RunSpec, name: str) -> Policy:
    """The policy ``name`` of a run. ``ConfigError`` for an unknown one, ``ArtifactError`` for a missing adapter."""
    if name not in POLICIES:
        raise ConfigError(f"policies: unknown {name!r}, {did_you_mean(name, POLICIES)}")
    if name == "teacher":
        return _teacher(spec)
    adapted = name in ADAPTER_POLICIES
    adapter = _adapter(spec, name) if adapted else None
    loaded = load_model(spec.model, adapter=adapter, paths=spec.paths, world_seed=spec.world_seed)
    think = adapted or loaded.chat.opens
    return Policy(name, loaded, think, lambda p: loaded.chat.user_ids(p.text, think=think))


def prefilled(policy: Policy, prefill: str) -> Policy:
    """The policy asked without reasoning, its answer begun by ``prefill``, as the paper asks on utility prompts."""
    chat = policy.loaded.chat

    def ask(prompt: Prompt) -> tuple[int, ...]:
        return chat.user_ids(prompt.text, think=False, prefill=prefill)

    return replace(policy, think=False, ask=ask, prefill=prefill)


def teacher_model(spec: RunSpec) -> LoadedModel:
    """The teacher's checkpoint. Raises ``ConfigError`` for ready-made traces, behind which no model stands here."""
    teacher = spec.teacher
    if teacher.kind == "ready_made" or teacher.id is None:
        raise ConfigError(
            f"teacher={teacher.name}: its traces are ready made, no model is there to ask; choose another teacher="
        )
    model = ModelSpec(
        name=teacher.name,
        id=teacher_source(spec),
        revision=None if teacher.id in TOY_IDS else teacher.revision,
        dtype=teacher.dtype,
        device=teacher.device,
        think=ThinkSpec(),
    )
    return load_model(model, paths=spec.paths, world_seed=spec.world_seed)


def teacher_source(spec: RunSpec) -> str:
    """The folder or hub id of the teacher's checkpoint."""
    return resolve_source(spec.teacher.id or "", None, paths=spec.paths, world_seed=spec.world_seed, role="teacher")[0]


def policy_inputs(spec: RunSpec, name: str) -> dict[str, str]:
    """The hashes of what a policy is made of, found without loading it."""
    if name == "teacher":
        return {"teacher": checkpoint_hash(teacher_source(spec), spec.teacher.revision)}
    hashes = {"base": _source_hash(spec)}
    if name in ADAPTER_POLICIES:
        folder, _, revision = _adapter(spec, name).partition("@")
        hashes["adapter"] = checkpoint_hash(folder, revision or None)
    return hashes


def _adapter(spec: RunSpec, name: str) -> str:
    """The policy's adapter. Raises ``ArtifactError`` if a run of this project made it on another base than this one."""
    adapter = adapter_of(spec, name)
    recorded = Path(adapter).expanduser().parent / "inputs.json"
    base = read_json(recorded).get("inputs", {}).get("base") if recorded.is_file() else None
    if base is not None and base != (own := _own_hash(spec)):
        raise ArtifactError(
            f"{adapter}: this adapter was trained on base {base}, and model={spec.model.name} "
            f"world_seed={spec.world_seed} is {own}; give the model= and world_seed= that it was trained with (if they "
            "are the same weights in another form, copy the adapter folder and name it by inputs.adapter=)"
        )
    return adapter


def _own_hash(spec: RunSpec) -> str:
    model = spec.model
    return checkpoint_hash(*resolve_source(model.id, model.revision, paths=spec.paths, world_seed=spec.world_seed))


def _source_hash(spec: RunSpec) -> str:
    model, own = spec.model, _own_hash(spec)
    if model.base is None:
        return own
    other = checkpoint_hash(
        *resolve_source(model.base, model.base_revision, paths=spec.paths, world_seed=spec.world_seed)
    )
    return digest(own, other)


def _teacher(spec: RunSpec) -> Policy:
    from dalign.traces.teacher import teacher_messages

    loaded = teacher_model(spec)
    teacher: TeacherSpec = spec.teacher

    def ask(prompt: Prompt) -> tuple[int, ...]:
        return loaded.chat.prompt_ids(teacher_messages(teacher, prompt, world_seed=spec.world_seed), think=True)

    return Policy("teacher", loaded, True, ask)
