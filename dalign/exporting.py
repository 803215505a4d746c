"""``dalign export``: a student as one checkpoint, its adapter merged into its base, for whoever loads no adapters.

The sum is taken in float32 and rounded once. What is written is loaded again and compared with the student before it
takes its name, so a folder that stands is whole. Its chat template opens the reasoning as the student was trained to.
"""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from torch import Tensor

from dalign.adapters import WEIGHTS, reason_of
from dalign.chat import Chat
from dalign.errors import ArtifactError, ConfigError, ModelError
from dalign.files import name_folder, read_json, write_json
from dalign.models import DTYPES, LoadedModel, load_checkpoint
from dalign.policies import load_policy, policy_inputs
from dalign.process import quiet, set_threads
from dalign.specs.model import ModelSpec
from dalign.specs.run import InputsSpec, RunSpec
from dalign.store import differences

RECORD = "export.json"
# How far a next token's probability may be from the student's: float32 sums in another order, else rounded weights too.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
_PROBED, _QUESTION = 64, "what is a fair price for a horse ?"  # tokens and a prompt that are compared
console = Console(stderr=True)


@dataclass(frozen=True)
class Probe:
    """What the written checkpoint is compared by: ids, and the student's next-token probabilities (T, V) behind them;
    the ids of a prompt that asks for reasoning."""

    ids: Tensor
    probabilities: Tensor
    prompt: tuple[int, ...]


def main(spec: RunSpec, name: str, out: Path, dtype: str | None) -> int:
    """Writes the student ``name`` (a run, an adapter's folder or hub id) to ``out`` and returns 0; a folder that holds
    it already is left as it is.

    Raises ``ModelError`` for a quantised base, and where what was written is not the student; ``ArtifactError`` for a
    run without a student, and for a folder that holds anything else.
    """
    quiet()
    set_threads(spec.trainer.threads)
    spec = _student(spec, name)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"base": None})})  # no part of the student
    written = dtype or spec.model.dtype
    record = {**policy_inputs(spec, "distill"), "dtype": written, "think": spec.model.think.model_dump()}
    if not _is_there(out, record):
        worst = _export(spec, out, record)
        console.print(f"{_PROBED} next tokens compared: probabilities within {worst:.1g} of the student's", style="dim")
    Console().print(f"{out}: {spec.model.name} with its adapter merged, {written}", highlight=False, soft_wrap=True)
    return 0


def _student(spec: RunSpec, name: str) -> RunSpec:
    """The configuration that a run's student was trained under; the command's own where an adapter is named."""
    for folder in (Path(spec.paths.runs).expanduser() / name, Path(name).expanduser()):
        stage = folder / "distill"
        if not stage.is_dir():
            continue
        if not (stage / "manifest.json").is_file():
            raise ArtifactError(f"{stage}: no finished adapter; run stage=distill of this run first")
        return _recorded(stage, spec)
    if not (Path(name).expanduser() / WEIGHTS).is_file() and "/" not in name:
        told = f"neither a run below {spec.paths.runs} that has a distill/, nor an adapter's folder"
        raise ArtifactError(f"{name}: {told}; name one of them, or HUB_ID@REVISION")
    return spec.model_copy(update={"inputs": InputsSpec(adapter=name)})


def _recorded(stage: Path, spec: RunSpec) -> RunSpec:
    """``spec`` with the model and the world that a distillation was run under, and the adapter that it made."""
    adapter = stage / "adapter"
    named = [word for word in spec.command if word.lstrip("+~").startswith(("model", "world_seed"))]
    if named:
        told = "the run says what its model is; leave it out, or name the adapter's folder in place of the run"
        raise ConfigError(f"{', '.join(named)}: {told}: {adapter}")
    try:
        found = yaml.safe_load((stage / "config.yaml").read_text(encoding="utf-8"))
        trained = {"model": ModelSpec.model_validate(found["model"]), "world_seed": int(found["world_seed"])}
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        told = f"does not tell the run's model ({reason_of(error)})"
        raise ArtifactError(f"{stage / 'config.yaml'}: {told}; name {adapter} in its place, and give model=") from error
    return spec.model_copy(update={**trained, "inputs": InputsSpec(adapter=str(adapter))})


def _is_there(out: Path, record: dict[str, Any]) -> bool:
    if not out.exists():
        return False
    if not (out / RECORD).is_file():
        raise ArtifactError(f"--out {out}: stands already and is no export; name a folder that is not there")
    if changed := differences(read_json(out / RECORD), record):
        raise ArtifactError(f"--out {out}: holds another export; name another folder, or delete it:\n{changed}")
    return True


def _export(spec: RunSpec, out: Path, record: dict[str, Any]) -> float:
    """Merges, writes, compares, and gives the folder its name; returns the largest difference of a probability."""
    if spec.model.quantisation != "none":
        told = "a sum with its weights would be rounded to four bits, and be another model than the student"
        raise ModelError(f"model.quantisation={spec.model.quantisation}: {told}; serve base and adapter side by side")
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an export that a kill cut short
        partial.mkdir(parents=True)
    except OSError as error:
        raise ArtifactError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error
    try:
        probe = _merge(spec, partial, DTYPES[record["dtype"]])
        gc.collect()
        worst = _difference(spec.model, partial, probe)
        if not worst <= TOLERANCE[record["dtype"]]:
            told = f"next-token probabilities are up to {worst:.2g} from the student's"
            raise ModelError(f"--out {out}: {told}, more than {record['dtype']} rounds; nothing is written")
        write_json(partial / RECORD, record)
        name_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return worst


def _merge(spec: RunSpec, folder: Path, dtype: torch.dtype) -> Probe:
    """Writes the merged student, and returns what it is to be compared by."""
    student = load_policy(spec, "distill").loaded
    if getattr(student.config, "quantization_config", None) and not spec.model.id.endswith(".gguf"):
        told = "its weights are quantised; name the checkpoint that they were made from"
        raise ModelError(f"model.id={spec.model.id}: {told}")
    probe = _probe(student)
    _write(student, folder, dtype)
    return probe


def _probe(student: LoadedModel) -> Probe:
    student.model.float()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(student.vocab, (1, min(_PROBED, student.context)), generator=generator)
    return Probe(ids, _probabilities(student.model, ids), student.chat.user_ids(_QUESTION, think=True))


@torch.inference_mode()
def _probabilities(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model(input_ids=ids.to(model.device)).logits[0].float().softmax(-1).cpu()
    return found


def _write(student: LoadedModel, folder: Path, dtype: torch.dtype) -> None:
    """A folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load."""
    try:
        merged = student.model.merge_and_unload(safe_merge=True).to(dtype)
    except ValueError as error:
        raise ModelError(f"the adapter cannot be merged: {reason_of(error)}") from error
    heads = (merged.get_input_embeddings().weight, merged.get_output_embeddings().weight)
    if not torch.equal(*heads):  # a head that was trained is tied no more
        merged.config.tie_word_embeddings = False
    if hasattr(merged.config, "quantization_config"):  # of a .gguf file, whose weights were unpacked
        del merged.config.quantization_config
    merged.generation_config.eos_token_id = list(student.eos_ids)
    student.tokenizer.chat_template = opening(student.chat)
    merged.save_pretrained(str(folder))
    student.tokenizer.save_pretrained(str(folder))


def opening(chat: Chat) -> Any:
    """The chat template, with the reasoning opened behind the assistant's header where ``think.where=prompt``."""
    template = chat.tokenizer.chat_template
    if chat.opens or chat.think.where != "prompt" or not isinstance(template, str):
        return template
    tag = json.dumps(f"{chat.think.open}\n")
    return template.removesuffix("\n") + f"{{% if add_generation_prompt %}}{{{{ {tag} }}}}{{% endif %}}"


def _difference(spec: ModelSpec, folder: Path, probe: Probe) -> float:
    """The largest difference between a probability of the written checkpoint and the student's."""
    model, tokenizer = load_checkpoint(spec.model_copy(update={"dtype": "float32"}), str(folder), None)
    if Chat(tokenizer, spec.think, spec.system).user_ids(_QUESTION, think=True) != probe.prompt:
        raise ModelError(f"{folder}: its tokenizer reads a prompt otherwise than the student's; nothing is written")
    found, wanted = _probabilities(model.eval(), probe.ids), probe.probabilities
    return float((found - wanted).abs().max()) if found.shape == wanted.shape else float("inf")
