"""Scores of (prompt, response) pairs: the adapter on and off in the same model, over the same batch.

A score is a function of its pair alone: padding, order, neighbours and batch size change it by rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dalign.attribute.batches import Batch, bucket_of, left_pad, round_up, run_batches
from dalign.attribute.frozen import frozen
from dalign.attribute.hidden import Head, Reading, causal_lm, output_head, read_states
from dalign.attribute.likelihood import response_scores, token_scores
from dalign.attribute.pairs import Pair, PairScores, Position, unscorable
from dalign.attribute.similarity import LAYERED_SCORES
from dalign.models import LoadedModel
from dalign.specs.sampling import AttributionSpec

CPU_LOGITS, DEVICE_LOGITS = 1 << 23, 1 << 26  # logits held at a time for each model: 32 and 256 MiB in float32
HEAD_ROWS = 64  # the head's row count is a multiple of this: few shapes


def score_pairs(loaded: LoadedModel, pairs: Sequence[Pair], spec: AttributionSpec) -> list[PairScores]:
    """The scores that ``spec`` names, one ``PairScores`` a pair, in order.

    A pair that is empty or longer than the context comes back with ``error`` set. The head runs only if a flat score is
    asked for, and then over the response's positions alone. Raises ``ModelError`` if one pair alone exceeds the memory.
    """
    scores = [PairScores(error=unscorable(pair, spec.position, loaded.context)) for pair in pairs]
    todo = [i for i, found in enumerate(scores) if not found.error]
    heads = _heads(loaded) if spec.flat and todo else None

    def both(indices: Sequence[int], batch: Batch) -> None:
        student = read_states(loaded.model, batch)
        with loaded.adapter_off():
            base = read_states(loaded.base_model(), batch)
        rows = [pairs[todo[i]] for i in indices]
        layered = _layered_scores(student, base, spec)
        flat = _flat_scores(loaded, rows, student, base, heads, spec) if heads else [{} for _ in rows]
        for i, by_layer, by_pair in zip(indices, layered, flat, strict=True):
            scores[todo[i]] = PairScores(layered=by_layer, flat=by_pair)

    _over_batches(loaded, [pairs[i].ids(spec.position) for i in todo], spec.token_budget, both)
    return scores


def base_states(
    loaded: LoadedModel, pairs: Sequence[Pair], *, position: Position = "content", token_budget: int = 8192
) -> Tensor:
    """The base's states at the end of each pair, float32 (P, L+1, D) on the CPU: the features of the probe.

    Rows of pairs that are empty or longer than the context are NaN.
    """
    states = torch.full((len(pairs), loaded.n_layers + 1, loaded.width), torch.nan)
    todo = [i for i, pair in enumerate(pairs) if not unscorable(pair, position, loaded.context)]

    def off(indices: Sequence[int], batch: Batch) -> None:
        with loaded.adapter_off():
            ends = read_states(loaded.base_model(), batch).ends_BLD
        states[[todo[i] for i in indices]] = ends.cpu()

    _over_batches(loaded, [pairs[i].ids(position) for i in todo], token_budget, off)
    return states


def _over_batches(
    loaded: LoadedModel, rows: Sequence[tuple[int, ...]], budget: int, step: Callable[[Sequence[int], Batch], None]
) -> None:
    """Runs ``step`` over left-padded batches of ``rows``, the models in evaluation mode and without gradients."""

    def padded(indices: Sequence[int], width: int) -> None:
        step(indices, left_pad([rows[i] for i in indices], width, loaded.pad_id, loaded.device))

    with frozen(loaded.model, loaded.base_model()):
        run_batches(
            [len(row) for row in rows], budget=budget, bucket=bucket_of(causal_lm(loaded.model).dtype), step=padded
        )


def _layered_scores(student: Reading, base: Reading, spec: AttributionSpec) -> list[dict[str, list[float]]]:
    """One dict of scores a pair; ``[0]`` of each list is the embeddings'."""
    by_name = {name: LAYERED_SCORES[name](student.ends_BLD, base.ends_BLD).tolist() for name in spec.layered}
    return [{name: rows[i] for name, rows in by_name.items()} for i in range(len(student.ends_BLD))]


def _flat_scores(
    loaded: LoadedModel, rows: Sequence[Pair], student: Reading, base: Reading, heads: Heads, spec: AttributionSpec
) -> list[dict[str, float]]:
    """Likelihood scores of a batch's pairs, from the final states at their responses' positions."""
    lengths = [len(pair.response_ids) for pair in rows]
    tokens_M = torch.tensor([i for pair in rows for i in pair.response_ids], device=loaded.device)
    student_MD, base_MD = (_response_states(reading, lengths, spec.position) for reading in (student, base))
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
    base_vocab = int(causal_lm(loaded.base_model()).config.get_text_config().vocab_size)
    return Heads(student, base, min(loaded.vocab, base_vocab))


def _response_states(reading: Reading, lengths: Sequence[int], position: Position) -> Tensor:
    """Final states (M, D) from which the responses' tokens are predicted, row after row.

    Token t of a response is predicted from the position before it, so the states run from the prompt's last token to
    the response's last but one. For ``eos`` one token follows the response in its row.
    """
    last = reading.final_BTD.shape[1] - (1 if position == "content" else 2)
    return torch.cat([row[last - n : last] for row, n in zip(reading.final_BTD, lengths, strict=True)])


def _head_chunks(count: int, vocab: int, device: torch.device) -> list[tuple[int, int, int]]:
    """(start, stop, rows to pad to) of chunks with a bounded number of logits; all but the last share one shape."""
    floats = CPU_LOGITS if device.type == "cpu" else DEVICE_LOGITS
    size = max(floats // vocab // HEAD_ROWS, 1) * HEAD_ROWS
    spans = [(start, min(start + size, count)) for start in range(0, count, size)]
    return [(start, stop, round_up(stop - start, HEAD_ROWS)) for start, stop in spans]


def _rows_padded(states_MD: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(states_MD, (0, 0, 0, rows - len(states_MD)))
