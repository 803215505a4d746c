"""How large the model of a cell is, for counting its work: ``model.json`` beside the cell's samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalign.errors import ModelError
from dalign.files import read_json, write_json

if TYPE_CHECKING:
    from dalign.models import LoadedModel

NAME = "model.json"
NOT_THE_BASES = ("lora_", "modules_to_save")  # in the names of what an adapter adds


@dataclass(frozen=True)
class Sizes:
    """Parameters that a token passes through: ``layer_parameters`` in each of ``layers`` (their mean), and the
    ``head_parameters`` of the output head. No embeddings, none of an adapter's own; all experts of a mixture count."""

    layers: int
    layer_parameters: int
    head_parameters: int


def sizes_of(loaded: LoadedModel) -> Sizes | None:
    """The sizes of a loaded model's base; weights in nf4 count as those they stand for. None for an architecture whose
    layers or head are not found: it can be sampled all the same."""
    from dalign.attribute.hidden import causal_lm
    from dalign.attribute.shortened import layers_of

    model = causal_lm(loaded.model)
    head = model.get_output_embeddings()
    try:
        layers = layers_of(model.get_decoder())
    except ModelError:
        return None
    return None if head is None else Sizes(len(layers), round(_parameters(layers) / len(layers)), _parameters(head))


def record_sizes(folder: Path, loaded: LoadedModel) -> None:
    """Writes ``model.json`` unless it is there, or the sizes are not known."""
    if not (folder / NAME).exists() and (sizes := sizes_of(loaded)) is not None:
        write_json(folder / NAME, asdict(sizes))


def read_sizes(folder: Path) -> Sizes | None:
    """What was recorded; None for folders of before it was, and for imported samples."""
    path = folder / NAME
    return Sizes(**read_json(path)) if path.exists() else None


def _parameters(module: Any) -> int:
    return sum(
        prod(getattr(getattr(value, "quant_state", None), "shape", None) or value.shape)
        for name, value in module.named_parameters()
        if not any(mark in name for mark in NOT_THE_BASES)
    )
