"""How large the model of a cell is, for counting its work: ``model.json`` beside the cell's samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def sizes_of(loaded: LoadedModel) -> Sizes:
    """The sizes of a loaded model's base; weights in nf4 count as those they stand for."""
    from dalign.attribute.hidden import causal_lm
    from dalign.attribute.shortened import layers_of

    model = causal_lm(loaded.model)
    layers = layers_of(model.get_decoder())
    return Sizes(len(layers), round(_parameters(layers) / len(layers)), _parameters(model.get_output_embeddings()))


def record_sizes(folder: Path, loaded: LoadedModel) -> None:
    """Writes ``model.json`` unless it is there."""
    if not (folder / NAME).exists():
        write_json(folder / NAME, asdict(sizes_of(loaded)))


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
