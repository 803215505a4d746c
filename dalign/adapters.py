"""PEFT adapters: made, saved and put on a base, whose vocabulary is brought to the one they were trained with.

Published adapters come with tokens of their own (``<think>``): a resized vocabulary, a trained head over it, the
embeddings stored or not. The base gets the same vocabulary: for added ids, the adapter's stored embeddings, else the
mean over the words that the token's text is made of. Its own rows are never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dalign.errors import ModelError
from dalign.records import digest
from dalign.specs.model import LoraSpec

WEIGHTS = "adapter_model.safetensors"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")


@dataclass(frozen=True)
class Attached:
    """The adapted model, its tokenizer, the adapter's hash; ``added`` says where the base's added rows come from."""

    model: Any
    tokenizer: Any
    hash: str
    added: str | None


def attach(
    model: Any, tokenizer: Any, adapter: Path | str, *, trainable: bool = False, second: Any | None = None
) -> Attached:
    """Puts a PEFT folder or ``HUB_ID@REVISION`` on ``model``. Pickled adapters are refused.

    ``second`` is another checkpoint that is to read the student's responses: it gets the same vocabulary.

    Raises ``ModelError`` for an adapter that is missing, pickled or of another shape.
    """
    from peft import PeftModel

    folder = _folder(adapter)
    own = _own_tokenizer(folder, tokenizer)
    with _own_rows_kept(model, folder):
        added = _fit_vocabulary(model, tokenizer, own, folder)
        if second is not None:
            _fit_vocabulary(second, tokenizer, own, folder)
        try:
            adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"adapter={adapter}: cannot be put on this model: {reason_of(error)}") from error
        except (KeyError, TypeError) as error:
            told = f"its adapter_config.json asks for what peft does not know: {error}"
            raise ModelError(f"adapter={adapter}: {told}") from error
    return Attached(adapted, own, checkpoint_hash(*_named(adapter)), added)


def new_adapter(model: Any, tokenizer: Any, spec: LoraSpec) -> nn.Module:
    """A fresh LoRA in float32 on a frozen base. Raises ``ModelError`` for targets the model does not have.

    peft's ``prepare_model_for_kbit_training`` is not called: it casts norms and embeddings of an nf4 base to float32,
    and with the adapter off that is another model than the one loaded.
    """
    from peft import LoraConfig, get_peft_model

    tokens = [int(tokenizer.convert_tokens_to_ids(t)) for t in spec.trainable_tokens]
    targets: Any = spec.targets if isinstance(spec.targets, str) else list(spec.targets) or None
    config = LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets,
        modules_to_save=list(spec.modules_to_save) or None,
        trainable_token_indices=tokens or None,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"model.lora.targets={spec.targets!r}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """The first line of an error's message, and the second too where the first only announces it by a colon."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def rows_of(model: Any) -> int:
    """The number of ids a causal LM has embeddings for."""
    return int(model.get_input_embeddings().weight.shape[0])


def checkpoint_hash(source: str, revision: str | None) -> str:
    """A hash of a local checkpoint's weights and config, or of a hub id and its revision."""
    path = Path(source)
    if not path.exists():
        return digest(source, revision)
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*config.json")])
    sha = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                sha.update(block)
    return sha.hexdigest()[:16]


def _named(adapter: Path | str) -> tuple[str, str | None]:
    name, _, revision = str(adapter).partition("@")
    return str(Path(name).expanduser()) if Path(name).expanduser().exists() else name, revision or None


def _folder(adapter: Path | str) -> Path:
    """The adapter's folder, fetched from the hub if it is none here."""
    name, revision = _named(adapter)
    folder = Path(name)
    if not folder.exists():
        folder = _fetched(name, revision)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"adapter={adapter}: no {WEIGHTS} there (a pickled adapter_model.bin is refused)")
    return folder


def _fetched(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    kept = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=kept))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        told = f"no such folder, and the hub cannot be asked: {reason_of(error)}"
        raise ModelError(f"adapter={name}: {told}") from error


def _own_tokenizer(folder: Path, base: Any) -> Any:
    """The tokenizer saved beside the adapter, with the base's chat template if it has none; else the base's."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        return base
    try:
        own = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {reason_of(error)}") from error
    own.chat_template = own.chat_template or base.chat_template
    return own


@contextmanager
def _own_rows_kept(model: Any, folder: Path) -> Iterator[None]:
    """The base's embeddings of its own ids come out as they went in: peft loads stored embeddings over all of them.

    Where the adapter trained embeddings, peft puts a copy beside the base's, which is then left alone.
    """
    if _stored_tensor(folder, _EMBEDDINGS) is None:
        yield
        return
    before = model.get_input_embeddings().weight.detach().clone()
    yield
    embeddings = model.get_input_embeddings()
    if isinstance(embeddings, nn.Embedding):
        rows = min(len(before), len(embeddings.weight))
        with torch.no_grad():
            embeddings.weight[:rows] = before[:rows]


def _fit_vocabulary(model: Any, base_tokenizer: Any, tokenizer: Any, folder: Path) -> str | None:
    """Gives ``model`` as many rows as the adapter stores; where those it lacked come from, None if it lacked none."""
    stored = _stored_rows(folder)
    own = rows_of(model)
    if stored is None or stored == own:
        return None
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.resize_token_embeddings(stored, mean_resizing=False)
    if stored < own:
        return None
    embeddings = _stored_tensor(folder, _EMBEDDINGS)
    inner, outer = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        if embeddings is not None:
            inner[own:] = embeddings[own:].to(inner)
        for row in range(own, stored):
            words = _words(base_tokenizer, tokenizer, row) or list(range(own))
            if embeddings is None:
                inner[row] = inner[words].float().mean(0).to(inner)
            if not tied:
                outer[row] = outer[words].float().mean(0).to(outer)
    return "the adapter's embeddings" if embeddings is not None else "the mean of their sub-words' embeddings"


def _words(base_tokenizer: Any, tokenizer: Any, row: int) -> list[int]:
    """The base's ids of an added token's text, none if the adapter's tokenizer does not know the id."""
    text = tokenizer.convert_ids_to_tokens(row) if row < len(tokenizer) else None
    return list(base_tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _stored_rows(folder: Path) -> int | None:
    """The number of ids in the adapter's stored head or embeddings, None if it stores neither."""
    found = _stored_tensor(folder, _HEADS + _EMBEDDINGS)
    return None if found is None else len(found)


def _stored_tensor(folder: Path, endings: tuple[str, ...]) -> Tensor | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / WEIGHTS), framework="pt") as stored:
            names = [name for name in stored.keys() if name.endswith(endings)]  # noqa: SIM118 (not a dict)
            tensor: Tensor | None = stored.get_tensor(names[0]) if names else None
            return tensor
    except SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS}: cannot be read: {error}") from error
