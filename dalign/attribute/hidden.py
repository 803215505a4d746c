"""Hidden states of a causal LM where a response ends, at every layer wanted, and its output head by itself.

Layer l is transformers' ``hidden_states[l]``: 0 the embeddings, the last one after the final norm. A prompt passes once
for all its responses. Hooks keep one vector a row and layer where ``output_hidden_states`` would keep every position,
and no logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dalign.attribute.batches import Batch
from dalign.attribute.behind import behind
from dalign.attribute.pairs import Readout
from dalign.attribute.prefix import PrefixCache, prefix_cache
from dalign.attribute.shortened import layers_of, shortened
from dalign.errors import ModelError

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Wanted:
    """What a pass is for: states up to layer ``top`` at each of ``readouts``, and, for a head, ``final`` ones.

    ``content`` and ``eos`` are a row's last column, ``mean`` is over the response without its turn's end; the columns
    of the others are told with each batch.
    """

    top: int
    readouts: tuple[Readout, ...] = ("content",)
    final: bool = False

    @property
    def to_end(self) -> bool:
        """Whether the turn's end is among what passes."""
        return "eos" in self.readouts

    @property
    def told(self) -> tuple[Readout, ...]:
        """The readouts whose columns differ from pair to pair."""
        return tuple(r for r in self.readouts if r in ("think", "answer"))


@dataclass(frozen=True)
class Prompts:
    """Prompts that have passed: keys and values up to the highest layer run, ``last_PD`` the final states of their ends
    (only if final states are wanted), ``lengths_P`` their numbers of tokens, ``mask_PT`` 1 at those."""

    cache: PrefixCache
    mask_PT: Tensor
    lengths_P: Tensor
    last_PD: Tensor | None


@dataclass(frozen=True)
class Reading:
    """``states_BRLD``: float32 states at each readout, layers 0 to ``top``.

    ``final_BTD``: the final states from which each response token is predicted, None unless wanted.
    """

    states_BRLD: Tensor
    final_BTD: Tensor | None

    @property
    def ends_BLD(self) -> Tensor:  # noqa: N802
        """The states at the first readout."""
        return self.states_BRLD[:, 0]


def causal_lm(model: Any) -> Any:
    """The causal LM inside a ``PeftModel`` (LoRA layers live in it), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def read_prompts(model: nn.Module, batch: Batch, wanted: Wanted) -> Prompts:
    """One pass of left-padded prompts. Raises ``ModelError`` for layers whose keys and values cannot be shared."""
    decoder = causal_lm(model).get_decoder()
    cache = prefix_cache(causal_lm(model).config)
    if cache is None:
        raise ModelError(f"{type(decoder).__name__} has layers other than full and sliding attention: not supported")
    top, lengths_P = _depth(decoder, wanted), batch.mask_BT.sum(-1)
    last = torch.full((len(batch.ids_BT), 1), batch.ids_BT.shape[1] - 1, device=batch.ids_BT.device)
    with shortened(decoder, top, last):
        out = _run(decoder, batch, batch.mask_BT, cache)
    return Prompts(cache, batch.mask_BT, lengths_P, out[:, -1] if wanted.final else None)


def read_responses(
    model: nn.Module,
    prompts: Prompts,
    rows_B: Tensor,
    batch: Batch,
    wanted: Wanted,
    told_BK: Tensor | None = None,
) -> Reading:
    """One pass of right-padded responses; row b goes on from prompt ``rows_B[b]``.

    ``batch.positions_BT`` count from the response's first token. ``told_BK`` are the columns of ``wanted.told``.
    """
    decoder = causal_lm(model).get_decoder()
    depth = _depth(decoder, wanted)
    before_BT = prompts.mask_PT[rows_B] if depth else prompts.mask_PT[rows_B, :0]
    mask_BT = torch.cat([before_BT, batch.mask_BT], dim=1)
    ends_B = batch.mask_BT.sum(-1) - 1
    moved = Batch(batch.ids_BT, batch.mask_BT, batch.positions_BT + prompts.lengths_P[rows_B, None])
    everywhere = wanted.final or "mean" in wanted.readouts
    columns_BK = _columns(ends_B, told_BK, wanted)
    read = _reader(ends_B, columns_BK, wanted)
    with (
        shortened(decoder, depth, None if everywhere else columns_BK),
        _ends_of_layers(decoder, wanted.top, read) as ends,
        behind(causal_lm(model), depth, prompts.cache, prompts.lengths_P, rows_B),
    ):
        states = _run(decoder, moved, mask_BT, prompts.cache)
    if len(ends) == wanted.top:  # the highest layer's are the decoder's own result
        ends.append(read(states) if everywhere or not wanted.top else states.float())
    if prompts.last_PD is None:
        return Reading(torch.stack(ends, dim=2), None)
    shifted_BTD = torch.cat([prompts.last_PD[rows_B, None], states[:, :-1]], dim=1)
    return Reading(torch.stack(ends, dim=2), shifted_BTD)


def _depth(decoder: nn.Module, wanted: Wanted) -> int:
    return len(layers_of(decoder)) if wanted.final else wanted.top


def _run(decoder: Any, batch: Batch, mask_BT: Tensor, cache: PrefixCache) -> Tensor:
    out: Tensor = decoder(
        input_ids=batch.ids_BT,
        attention_mask=mask_BT,
        position_ids=batch.positions_BT,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return out


def _columns(ends_B: Tensor, told_BK: Tensor | None, wanted: Wanted) -> Tensor:
    """The columns (B, K) of the readouts that are columns, in their order."""
    told = iter(() if told_BK is None else told_BK.unbind(1))
    columns = [next(told) if r in wanted.told else ends_B for r in wanted.readouts if r != "mean"]
    return torch.stack(columns, dim=1) if columns else ends_B.new_zeros((len(ends_B), 0))


def _reader(ends_B: Tensor, columns_BK: Tensor, wanted: Wanted) -> Callable[[Tensor], Tensor]:
    """States (B, T, D) to float32 (B, R, D), one vector a readout: at its column, or the mean over the response."""
    rows_B1 = torch.arange(len(ends_B), device=ends_B.device)[:, None]
    if "mean" not in wanted.readouts:
        return lambda states_BTD: states_BTD[rows_B1, columns_BK].float()
    length_B1, at = (ends_B + (not wanted.to_end))[:, None], wanted.readouts.index("mean")

    def read(states_BTD: Tensor) -> Tensor:
        within_BT = torch.arange(states_BTD.shape[1], device=ends_B.device) < length_B1
        mean_BD = torch.einsum("bt,btd->bd", within_BT.float() / length_B1, states_BTD.float())
        places_BKD = states_BTD[rows_B1, columns_BK].float()
        return torch.cat([places_BKD[:, :at], mean_BD[:, None], places_BKD[:, at:]], dim=1)

    return read


@contextmanager
def _ends_of_layers(decoder: nn.Module, top: int, read: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Collects what ``read`` takes of the states before the first layer and after each one below ``top``.

    The state after the decoder's last layer is not among them: it is the decoder's own result.
    """
    layers: list[nn.Module] = list(decoder.layers)  # type: ignore[arg-type]
    ends: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ends.append(read(args[0] if args else kwargs["hidden_states"]))

    def after(_: nn.Module, __: Any, output: Any) -> None:
        ends.append(read(output[0] if isinstance(output, tuple) else output))

    hooks: list[Any] = [layers[0].register_forward_pre_hook(before, with_kwargs=True)] if layers else []
    hooks += [layer.register_forward_hook(after) for layer in layers[: min(top, len(layers) - 1)]]
    try:
        yield ends
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def last_states(model: Any) -> Iterator[list[Tensor]]:
    """Collects, of one pass of a causal LM, the float32 states at the last column (B, D), layers 0 to L."""
    decoder = causal_lm(model).get_decoder()
    depth = len(layers_of(decoder))
    with _ends_of_layers(decoder, depth, lambda states_BTD: states_BTD[:, -1].float()) as ends:

        def final(_: nn.Module, __: Any, output: Any) -> None:
            ends.append(output.last_hidden_state[:, -1].float())

        hook = decoder.register_forward_hook(final)
        try:
            yield ends
        finally:
            hook.remove()


def output_head(model: nn.Module) -> Head:
    """The map from final states (M, D) to the logits (M, V) that ``model`` itself returns, checked on one token.

    Raises ``ModelError`` for architectures that scale their logits in a way not known here.
    """
    inner = causal_lm(model)
    cap = getattr(inner.config.get_text_config(), "final_logit_softcapping", None)
    head = inner.get_output_embeddings()

    def logits(states_MD: Tensor) -> Tensor:
        out: Tensor = head(states_MD)
        return out if cap is None else torch.tanh(out / cap) * cap

    token = torch.zeros((1, 1), dtype=torch.long, device=inner.device)
    out = inner(input_ids=token, use_cache=False, output_hidden_states=True)
    found, wanted = logits(out.hidden_states[-1][0]).float(), out.logits[0].float()
    if not torch.allclose(found, wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max())):
        raise ModelError(f"{type(inner).__name__} does more to its logits than its head; set attribution.flat=[]")
    return logits
