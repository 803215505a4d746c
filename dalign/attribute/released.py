"""Replicas of how the released code reads similarities (arXiv 2604.09665), to measure what each choice is worth.

Plain forward passes over right-padded batches of four, in the order given: with ``pad_position`` a score depends on its
neighbours, by design. Nothing else in this project takes scores from here; those are ``score.py``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dalign.attribute.batches import Batch, out_of_memory, right_pad
from dalign.attribute.frozen import frozen
from dalign.attribute.hidden import causal_lm
from dalign.attribute.pairs import Pair, unscorable
from dalign.attribute.similarity import latent_similarity
from dalign.errors import ModelError
from dalign.models import LoadedModel

BATCH = 4
Row = tuple[int, ...]


@dataclass(frozen=True)
class Replica:
    """How states are read and compared. ``pad_position``: at the last column, a padding token for all but the longest
    row, else at the row's own last token. ``cut``: pairs end at so many tokens, whole where None. ``bf16``: the cosine
    is taken in bfloat16."""

    pad_position: bool = False
    cut: int | None = None
    bf16: bool = False


def released_similarities(
    loaded: LoadedModel, pairs: Sequence[Pair], replicas: Mapping[str, Replica]
) -> list[dict[str, list[float]]]:
    """For each pair the similarities at layers 0 to L by each of ``replicas``, under its name; none where the pair is
    empty or, as far as it is read, longer than the context. Replicas that read the same ids share their passes."""
    found = [dict[str, list[float]]() for _ in pairs]
    with frozen(loaded.model, loaded.base_model()):
        for start in range(0, len(pairs), BATCH):
            at = range(start, min(start + BATCH, len(pairs)))
            for cut in dict.fromkeys(replica.cut for replica in replicas.values()):
                asked = {name: replica for name, replica in replicas.items() if replica.cut == cut}
                _batch(loaded, [pairs[i] for i in at], cut, asked, [found[i] for i in at])
    return found


def _batch(
    loaded: LoadedModel,
    pairs: Sequence[Pair],
    cut: int | None,
    replicas: Mapping[str, Replica],
    into: Sequence[dict[str, list[float]]],
) -> None:
    """Scores at most four pairs and writes each one's lists into its dict."""
    shown = [_cut(pair, cut) for pair in pairs]
    todo = [i for i, pair in enumerate(shown) if not unscorable(pair, "content", loaded.context)]
    if not todo:
        return
    rows = [shown[i].prompt_ids + shown[i].response_ids for i in todo]
    batch = right_pad(rows, max(map(len, rows)), loaded.pad_id, loaded.device)
    ours = _ends(loaded.model, batch)
    with loaded.adapter_off():
        base = _ends(loaded.base_model(), batch)
    for name, replica in replicas.items():
        at = int(replica.pad_position)
        for i, values in zip(todo, _similarity(ours[at], base[at], replica.bf16).tolist(), strict=True):
            into[i][name] = values


def _cut(pair: Pair, cut: int | None) -> Pair:
    """The first ``cut`` tokens of the pair, the last of them its response's where the prompt alone is longer."""
    if cut is None or not pair.response_ids or len(pair.prompt_ids) + len(pair.response_ids) <= cut:
        return pair
    ids = (pair.prompt_ids + pair.response_ids)[:cut]
    split = min(len(pair.prompt_ids), cut - 1)
    return replace(pair, prompt_ids=ids[:split], response_ids=ids[split:])


def _ends(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states (B, L+1, D) at each row's own last token and at the last column, of one plain pass. Positions count
    columns, as transformers does by itself. Raises ``ModelError`` where the rows do not fit in memory."""
    try:
        out = causal_lm(model).get_decoder()(
            input_ids=batch.ids_BT, attention_mask=batch.mask_BT, output_hidden_states=True, use_cache=False
        )
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{len(batch.ids_BT)} pairs of {batch.ids_BT.shape[1]} tokens do not fit in memory together, as the "
            "released code's scores want them; use a device with more memory, or leave these protocol.switches out: "
            "pad_position, cut, bf16_cosine"
        ) from error
    rows_B, own_B = torch.arange(len(batch.ids_BT), device=batch.ids_BT.device), batch.mask_BT.sum(-1) - 1
    own = torch.stack([states_BTD[rows_B, own_B] for states_BTD in out.hidden_states], dim=1)
    return own, torch.stack([states_BTD[:, -1] for states_BTD in out.hidden_states], dim=1)


def _similarity(ours_BLD: Tensor, base_BLD: Tensor, bf16: bool) -> Tensor:
    """(B, L+1) on the CPU; in bfloat16 without the exact 1 that equal vectors have in float32."""
    if not bf16:
        return latent_similarity(ours_BLD, base_BLD).cpu()
    return cosine_similarity(ours_BLD.bfloat16(), base_BLD.bfloat16(), dim=-1).float().cpu()
