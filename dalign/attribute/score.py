"""Scores of (prompt, response) pairs: the adapter on and off in the same model, over the same batch.

A score is a function of its pair alone: padding, order, neighbours and batch size change it by rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dalign.attribute.batches import bucket_of, left_pad, right_pad, round_up, run_groups
from dalign.attribute.frozen import frozen
from dalign.attribute.hidden import (
    Head,
    Prompts,
    Reading,
    Wanted,
    causal_lm,
    output_head,
    read_prompts,
    read_responses,
)
from dalign.attribute.likelihood import response_scores, token_scores
from dalign.attribute.pairs import Pair, PairScores, unscorable
from dalign.attribute.places import Places, readouts_of
from dalign.attribute.similarity import LAYERED_SCORES
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.specs.sampling import AttributionSpec

CPU_LOGITS, DEVICE_LOGITS = 1 << 24, 1 << 26  # logits held at a time for each model, in its own dtype
HEAD_ROWS = 64  # the head's row count is a multiple of this: few shapes


def score_pairs(
    loaded: LoadedModel, pairs: Sequence[Pair], spec: AttributionSpec, *, student: Sequence[Tensor | None] | None = None
) -> list[PairScores]:
    """The scores that ``spec`` names, one ``PairScores`` a pair, in order.

    A pair that is empty or longer than the context comes back with ``error`` set. No layer above the highest one asked
    for is run, and the head only if a flat score is asked for, over the response's positions alone. ``student`` may
    hold the student's states of pairs, (L+1, D) as sampling kept them: its own pass is then left out where the position
    is ``content`` and no likelihood is asked for. Raises ``ModelError`` if one pair alone exceeds the memory, or for a
    layer that the model has not.
    """
    layers = asked_layers(spec, loaded.n_layers)
    wanted = Wanted(max(layers, default=0), readouts_of(spec), final=bool(spec.flat))
    scores = [PairScores(error=unscorable(pair, spec.position, loaded.context)) for pair in pairs]
    todo = [i for i, found in enumerate(scores) if not found.error]
    heads = _heads(loaded) if spec.flat and todo else None
    enough = wanted.readouts == ("content",) and not spec.flat  # what sampling kept is the state at the last id
    places = Places.of(loaded, [pairs[i] for i in todo], wanted)
    kept = [i for i in todo if enough and student is not None and student[i] is not None]

    def run(indices: Sequence[int], states: Sequence[Tensor] | None) -> None:
        def write(at: Sequence[int], read: Readings) -> None:
            rows = [pairs[indices[i]] for i in at]
            ours = read.student.states_BRLD if read.student else _stacked(states or (), at, wanted.top, loaded.device)
            layered = _layered_scores(ours, read.base.states_BRLD, spec, layers, loaded.n_layers)
            flat = _flat_scores(loaded, rows, read, heads, spec) if heads else [{} for _ in rows]
            for i, pair, by_layer, by_pair in zip(at, rows, layered, flat, strict=True):
                found = PairScores(layered=by_layer, flat=by_pair)
                scores[indices[i]] = places.without_missing(pair, found)

        read = [pairs[i] for i in indices]
        read_all(loaded, read, wanted, spec.token_budget, write, student=states is None, places=places)

    if kept and student is not None:
        run(kept, [state for i in kept if (state := student[i]) is not None])
    rest = sorted(set(todo) - set(kept))
    if rest:
        run(rest, None)
    return scores


def asked_layers(spec: AttributionSpec, n_layers: int) -> tuple[int, ...]:
    """The layers whose scores are wanted, 0 the embeddings. Raises ``ModelError`` for one that the model has not."""
    if not spec.layered:
        return ()
    asked = tuple(range(n_layers + 1)) if spec.layers is None else spec.layers
    if bad := [layer for layer in asked if not 0 <= layer <= n_layers]:
        raise ModelError(f"layers={bad}: this model has layers 0 (the embeddings) to {n_layers}")
    return asked


@dataclass(frozen=True)
class Readings:
    """What both models make of a batch; ``student`` is None where only the base was asked."""

    student: Reading | None
    base: Reading


def read_all(
    loaded: LoadedModel,
    pairs: Sequence[Pair],
    wanted: Wanted,
    budget: int,
    write: Callable[[Sequence[int], Readings], None],
    *,
    student: bool,
    places: Places | None = None,
) -> None:
    """Reads all pairs, the models in evaluation mode and without gradients; ``write`` gets batch after batch."""
    tails = [pair.tail("eos" if wanted.to_end else "content") for pair in pairs]
    row_of: dict[tuple[int, ...], int] = {}

    def begin(prompts: list[tuple[int, ...]], width: int) -> tuple[Prompts | None, Prompts]:
        row_of.clear()
        row_of.update((prompt, row) for row, prompt in enumerate(prompts))
        batch = left_pad(prompts, width, loaded.pad_id, loaded.device)
        ours = read_prompts(loaded.model, batch, wanted) if student else None
        with loaded.adapter_off():
            return ours, read_prompts(loaded.base_model(), batch, wanted)

    def step(begun: tuple[Prompts | None, Prompts], indices: list[int], width: int) -> None:
        indices = sorted(indices, key=lambda i: row_of[pairs[i].prompt_ids])  # responses to a prompt side by side
        batch = right_pad([tails[i] for i in indices], width, loaded.pad_id, loaded.device)
        rows = torch.tensor([row_of[pairs[i].prompt_ids] for i in indices], device=loaded.device)
        told = () if places is None else places.columns([pairs[i] for i in indices], loaded.device)
        ours = read_responses(loaded.model, begun[0], rows, batch, wanted, *told) if begun[0] is not None else None
        with loaded.adapter_off():
            base = read_responses(loaded.base_model(), begun[1], rows, batch, wanted, *told)
        write(indices, Readings(ours, base))

    with frozen(loaded.model, loaded.base_model()):
        run_groups(
            [pair.prompt_ids for pair in pairs],
            [len(tail) for tail in tails],
            budget=budget,
            bucket=bucket_of(causal_lm(loaded.model).dtype),
            begin=begin,
            step=step,
        )


def _stacked(states: Sequence[Tensor], at: Sequence[int], top: int, device: torch.device) -> Tensor:
    """Kept states as if they had been read at one readout: (B, 1, L, D)."""
    return torch.stack([states[i][None, : top + 1] for i in at]).float().to(device)


def _layered_scores(
    student_BRLD: Tensor, base_BRLD: Tensor, spec: AttributionSpec, layers: Sequence[int], n_layers: int
) -> list[dict[str, list[float]]]:
    """One dict of scores a pair; ``[0]`` of each list is the embeddings', and NaN stands at layers not asked for."""
    index, readouts = list(layers), readouts_of(spec)
    found = [dict[str, list[float]]() for _ in student_BRLD]
    for name in spec.layered:
        score = LAYERED_SCORES[name]
        at = readouts.index(score.readout or spec.position)
        table_BL = torch.full((len(found), n_layers + 1), torch.nan)
        table_BL[:, index] = score.compare(student_BRLD[:, at, index], base_BRLD[:, at, index]).cpu()
        for row, values in zip(found, table_BL.tolist(), strict=True):
            row[name] = values
    return found


def _flat_scores(
    loaded: LoadedModel, rows: Sequence[Pair], read: Readings, heads: Heads, spec: AttributionSpec
) -> list[dict[str, float]]:
    """Likelihood scores of a batch's pairs, from the final states at their responses' positions."""
    lengths = [len(pair.response_ids) for pair in rows]
    tokens_M = torch.tensor([i for pair in rows for i in pair.response_ids], device=loaded.device)
    student_MD, base_MD = (_response_states(reading, lengths) for reading in (read.student, read.base))
    values = []
    for start, stop, padded in _head_chunks(len(tokens_M), heads.vocab, loaded.device):
        student_logits = heads.student(_rows_padded(student_MD[start:stop], padded))[: stop - start]
        with loaded.adapter_off():
            base_logits = heads.base(_rows_padded(base_MD[start:stop], padded))[: stop - start]
        values.append(token_scores(student_logits, base_logits, tokens_M[start:stop], spec.flat, heads.vocab))
    return [response_scores(values_TS, spec.flat) for values_TS in torch.cat(values).cpu().split(lengths)]


@dataclass(frozen=True)
class Heads:
    """Both models' output heads (the base's is called with the adapter off), compared on ``vocab`` ids."""

    student: Head
    base: Head
    vocab: int


def _heads(loaded: LoadedModel) -> Heads:
    with frozen(loaded.model, loaded.base_model()):
        student = base = output_head(loaded.model)
        if loaded.base_model() is not loaded.model:
            base = output_head(loaded.base_model())
    return Heads(student, base, loaded.base_vocab)


def _response_states(reading: Reading | None, lengths: Sequence[int]) -> Tensor:
    """Final states (M, D) from which the responses' tokens are predicted, row after row."""
    if reading is None or reading.final_BTD is None:
        raise ModelError("likelihoods need both models' final states")
    return torch.cat([row[:n] for row, n in zip(reading.final_BTD, lengths, strict=True)])


def _head_chunks(count: int, vocab: int, device: torch.device) -> list[tuple[int, int, int]]:
    """(start, stop, rows to pad to) of chunks with a bounded number of logits; all but the last share one shape."""
    floats = CPU_LOGITS if device.type == "cpu" else DEVICE_LOGITS
    size = max(floats // vocab // HEAD_ROWS, 1) * HEAD_ROWS
    spans = [(start, min(start + size, count)) for start in range(0, count, size)]
    return [(start, stop, round_up(stop - start, HEAD_ROWS)) for start, stop in spans]


def _rows_padded(states_MD: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(states_MD, (0, 0, 0, rows - len(states_MD)))
