"""Attention on a CPU, with gradients, of a row in which answers stand behind the one prompt they share.

An answer attends to its prompt and to itself; the two parts are joined by their sums of exponentials, so no key is
copied and nothing is masked. Backwards, each part is given the joined output and sums: softmax's gradient needs no
more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dalign.joined import equal_runs, flash, join_, register

NAME = "dalign_shared_prompts"
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class Family(NamedTuple):
    """A prompt of ``prompt`` tokens from position ``start`` of the row on, and its answers' lengths, which follow."""

    start: int
    prompt: int
    answers: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Behind its last answer."""
        return self.start + self.prompt + sum(self.answers)


_families: ContextVar[Sequence[Family]] = ContextVar("families")


@contextmanager
def shared_prompts(config: Any, families: Sequence[Family]) -> Iterator[None]:
    """Inside, a pass of one row in a model of ``config`` (``sdpa``, on a CPU) attends within its families alone."""
    token = _families.set(families)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        _families.reset(token)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    out_BHTD = _FamilyAttention.apply(query, key, value, _families.get(), scaling)
    return out_BHTD.transpose(1, 2).contiguous(), None


class _FamilyAttention(torch.autograd.Function):
    """Queries (1, H, T, D), keys and values (1, K, T, D), H a multiple of K; 0 behind the last family."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, families: Sequence[Family], scale: float | None
    ) -> Tensor:
        heads = query.shape[1]
        out = query.new_zeros(query.transpose(1, 2).shape).transpose(1, 2)
        lse = query.new_zeros(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
        for family in families:
            for rows, columns, causal in _parts(family):
                q, k, v = rows.of(query), columns.of(key, heads), columns.of(value, heads)
                found, sums = flash(q, k, v, causal=causal, scale=scale)
                rows.of(out).copy_(found)
                rows.of(lse[..., None]).copy_(sums[..., None])
            if not family.answers:
                continue
            rows, columns = _answers(family)
            found, sums = flash(rows.of(query), columns.of(key, heads), columns.of(value, heads), scale=scale)
            join_(rows.of(out), rows.of(lse[..., None])[..., 0], found, sums)
            own, theirs = rows.of(lse[..., None])[..., 0], sums
            own.copy_(torch.logaddexp(own, theirs))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.families, ctx.scale = families, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        heads = query.shape[1]
        grads = [torch.zeros_like(t) for t in (query, key, value)]

        def add(rows: _Span, columns: _Span, *, causal: bool) -> None:
            q, g, o = (rows.of(t).contiguous() for t in (query, grad, out))
            sums = rows.of(lse[..., None])[..., 0]
            k, v = columns.of(key, heads), columns.of(value, heads)
            for to, span, found in zip(
                grads,
                (rows, columns, columns),
                _backward(g, q, k, v, o, sums, 0.0, causal, scale=ctx.scale),
                strict=True,
            ):
                kinds = to.shape[1]
                if found.shape[1] != kinds:  # heads that share keys
                    found = found.unflatten(1, (kinds, -1)).sum(2)
                span.of(to).add_(found)

        for family in ctx.families:
            for rows, columns, causal in _parts(family):
                add(rows, columns, causal=causal)
            if family.answers:
                add(*_answers(family), causal=False)
        return (*grads, None, None)


class _Span(NamedTuple):
    """``pieces`` of ``length`` positions next to each other, from ``start`` on."""

    start: int
    length: int
    pieces: int = 1

    def of(self, tensor: Tensor, heads: int | None = None) -> Tensor:
        """A view (pieces, H, length, D) of (1, H, T, D); with ``heads`` repeated so that there are as many."""
        cut = tensor[0, :, self.start : self.start + self.length * self.pieces]
        found = cut.unflatten(1, (self.pieces, self.length)).transpose(0, 1)
        if heads is None or found.shape[1] == heads:
            return found
        return found.repeat_interleave(heads // found.shape[1], dim=1)


def _parts(family: Family) -> Iterator[tuple[_Span, _Span, bool]]:
    """What attends to itself: the prompt, and neighbouring answers of one length together."""
    prompt = _Span(family.start, family.prompt)
    yield prompt, prompt, True
    position = family.start + family.prompt
    for first, last in equal_runs(family.answers):
        length = family.answers[first]
        if length:
            own = _Span(position, length, last - first)
            yield own, own, True
        position += length * (last - first)


def _answers(family: Family) -> tuple[_Span, _Span]:
    """All answers, and the prompt that they attend to."""
    return _Span(family.start + family.prompt, sum(family.answers)), _Span(family.start, family.prompt)


register(NAME, _attend, no_masks=lambda: True)
