"""A student against a checkpoint that it does not come from: of the base's shape and vocabulary, trained apart from it.

Where a choice by such a similarity does as well as by the base's, the similarity tells nothing of the student's origin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dalign.adapters import rows_of
from dalign.errors import ModelError
from dalign.models import LoadedModel, check_shape, load_checkpoint, resolve_source, weights_hash
from dalign.specs.run import PathsSpec


def source_of(name: str, *, paths: PathsSpec, world_seed: int) -> tuple[str, str | None]:
    """Where a checkpoint named by ``FOLDER`` or ``HUB_ID@REVISION`` is, and its revision."""
    where, _, revision = name.partition("@")
    return resolve_source(where, revision or None, paths=paths, world_seed=world_seed)


def against(loaded: LoadedModel, key: str, name: str, *, paths: PathsSpec, world_seed: int) -> LoadedModel:
    """The student of ``loaded``, to be compared with the checkpoint ``name``, which the option ``key`` gave.

    Raises ``ModelError`` for a checkpoint that cannot be loaded, of another shape, or of another vocabulary.
    """
    named, source = f"{key}={name}", source_of(name, paths=paths, world_seed=world_seed)
    other, tokenizer = load_checkpoint(loaded.spec, *source, role=key)
    check_shape(named, other, loaded.model)
    _check_vocabulary(named, (other, tokenizer), loaded)
    spec = loaded.spec.model_copy(update={"base": name})
    return replace(loaded, second=other, spec=spec, base_hash=weights_hash(spec, source), added=None)


def _check_vocabulary(named: str, checkpoint: tuple[Any, Any], loaded: LoadedModel) -> None:
    """The student's ids must mean the same tokens to the other model, and be among those it has rows for."""
    other, tokenizer = checkpoint
    theirs, own = tokenizer.get_vocab(), loaded.tokenizer.get_vocab()
    strange = sum(theirs.get(token) != i for token, i in own.items())
    if strange or rows_of(other) < max(own.values()) + 1:
        raise ModelError(
            f"{named}: another vocabulary, {strange} of the student's {len(own)} tokens have another id there or none "
            f"({rows_of(other)} rows); states compare over the same ids alone, so name a checkpoint that shares them"
        )
