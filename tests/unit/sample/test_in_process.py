"""The in-process engine: one pass a prompt, rows that leave, limits, modes, filters, and the adapter as it stands."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import tiny_models
import torch

from dalign.errors import DataError, ModelError
from dalign.models import LoadedModel
from dalign.sample import Request, sample_seed
from dalign.sample.replay import ReplayEngine
from dalign.sample.transformers import transformers_engine
from dalign.specs.sampling import SamplerSpec, TransformersEngine

RNG = Random(2)
SHORT, LONG = (tuple(RNG.randrange(2, tiny_models.VOCAB) for _ in range(n)) for n in (4, 33))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_models.loaded_tiny("llama")


def spec(**options: Any) -> SamplerSpec:
    return SamplerSpec(name="test", **{"max_new_tokens": 16, **options})


def requests(*prompts: tuple[int, ...], n: int = 1) -> list[Request]:
    return [Request(p, sample_seed(0, str(p), i)) for p in prompts for i in range(n)]


@pytest.fixture
def shapes(loaded: LoadedModel) -> Any:
    """The (rows, columns) of every call of the model."""
    seen: list[tuple[int, int]] = []
    hook = loaded.model.get_base_model().model.embed_tokens.register_forward_hook(
        lambda _, args, __: seen.append(tuple(args[0].shape))
    )
    yield seen
    hook.remove()


def test_each_distinct_prompt_passes_once_in_bucketed_columns(loaded: LoadedModel, shapes: Any) -> None:
    engine = transformers_engine(loaded, spec(engine=TransformersEngine(bucket=10)))
    engine.draw(requests(SHORT, LONG, n=5))
    assert shapes[0] == (2, 40)
    assert shapes[1] == (10, 1)
    assert all(columns == 1 for _, columns in shapes[1:])


@pytest.fixture
def hasty(loaded: LoadedModel) -> Any:
    """The model with ten stopping ids, so that samples end early and at different lengths."""
    config = loaded.model.generation_config
    config.eos_token_id = list(range(1, 11))
    yield loaded
    config.eos_token_id = tiny_models.EOS


def test_rows_that_ended_leave_the_batch_and_the_call_ends_with_the_last(hasty: LoadedModel, shapes: Any) -> None:
    engine = transformers_engine(hasty, spec(temperature=1.5, max_new_tokens=200))
    drawn = engine.draw(requests(SHORT, LONG, n=16))
    lengths = sorted(len(one.ids) + (one.finish_reason == "stop") for one in drawn)
    rows = [count for count, _ in shapes[1:]]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] == 1
    assert len(rows) == lengths[-1] - 1
    assert sum(rows) < 1.25 * sum(lengths), "finished samples go on costing"


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_samples_that_take_ended_ones_places_are_the_same(kind: str, rows: int, request: pytest.FixtureRequest) -> None:
    """Few places, prompts of very different lengths, sliding windows: float32 draws what one big batch draws."""
    model = tiny_models.loaded_tiny(kind)
    model.model.generation_config.eos_token_id = list(range(1, 11))
    wanted = requests(SHORT, LONG, SHORT[:1], n=6)
    options: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 80}
    together = transformers_engine(model, spec(engine=TransformersEngine(rows=64), **options)).draw(wanted)
    assert len({len(one.ids) for one in together}) > 4
    assert transformers_engine(model, spec(engine=TransformersEngine(rows=rows), **options)).draw(wanted) == together


def test_places_are_full_until_the_last_requests(hasty: LoadedModel, shapes: Any) -> None:
    engine = transformers_engine(hasty, spec(temperature=1.5, max_new_tokens=200, engine=TransformersEngine(rows=8)))
    drawn = engine.draw(requests(SHORT, LONG, n=40))
    steps = [rows for rows, columns in shapes if columns == 1]
    tokens = sum(len(one.ids) + (one.finish_reason == "stop") for one in drawn)
    first_tokens = len(drawn)
    assert max(steps) == 8
    assert sum(steps) < 1.15 * (tokens - first_tokens), "finished samples go on costing"
    assert steps.count(8) > 0.7 * len(steps)


def test_a_response_may_fill_the_context_and_no_more(loaded: LoadedModel) -> None:
    almost = (5,) * (tiny_models.CONTEXT - 3)
    engine = transformers_engine(loaded, spec(temperature=0.0, max_new_tokens=16))
    near, far = engine.draw([Request(almost, 0), Request(SHORT, 0)])
    assert len(near.ids) <= 3
    assert (near.finish_reason == "length") == (len(near.ids) == 3)
    assert far == engine.draw([Request(SHORT, 0)])[0]


def test_a_prompt_that_leaves_no_room_names_its_length_and_the_limit(loaded: LoadedModel) -> None:
    engine = transformers_engine(loaded, spec())
    with pytest.raises(ModelError, match=r"prompt of 256 tokens leaves no room.*context is 256"):
        engine.draw([Request(SHORT, 0), Request((5,) * 256, 0)])
    with pytest.raises(ModelError, match="no tokens"):
        engine.draw([Request((), 0)])


def test_sampling_is_done_in_evaluation_mode_and_training_goes_on(loaded: LoadedModel) -> None:
    model = tiny_models.with_lora(tiny_models.tiny_model("llama"), lora_dropout=0.5)
    training = tiny_models.wrap(model)
    wanted = transformers_engine(training, spec()).draw(requests(SHORT, n=3))
    model.train()
    model.get_base_model().gradient_checkpointing_enable()
    before = [module.training for module in model.modules()]
    assert transformers_engine(training, spec()).draw(requests(SHORT, n=3)) == wanted
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_the_adapter_is_used_as_it_stands(loaded: LoadedModel) -> None:
    bare = tiny_models.wrap(tiny_models.tiny_model("llama"))
    engine = transformers_engine(loaded, spec())
    wanted = transformers_engine(bare, spec()).draw(requests(SHORT, n=4))
    with loaded.adapter_off():
        assert engine.draw(requests(SHORT, n=4)) == wanted
    assert engine.draw(requests(SHORT, n=4)) != wanted


def test_top_k_of_one_is_greedy(loaded: LoadedModel) -> None:
    greedy = transformers_engine(loaded, spec(temperature=0.0)).draw(requests(SHORT, LONG))
    assert transformers_engine(loaded, spec(top_k=1)).draw(requests(SHORT, LONG)) == greedy


def test_repetition_penalty_does_not_see_the_padding(loaded: LoadedModel) -> None:
    """The padding id is one that the model may well say; beside a long prompt it must not be penalised."""
    with torch.no_grad():
        likeliest = int(loaded.model(input_ids=torch.tensor([SHORT])).logits[0, -1].argmax())
    loaded.tokenizer.pad_token_id = likeliest
    try:
        engine = transformers_engine(loaded, spec(temperature=0.0, repetition_penalty=1e6))
        alone = engine.draw(requests(SHORT))[0]
        assert alone.ids[0] == likeliest
        assert engine.draw(requests(LONG, SHORT))[1] == alone
    finally:
        loaded.tokenizer.pad_token_id = tiny_models.PAD
    assert len(set(alone.ids)) == len(alone.ids), "so large a penalty lets nothing come twice"


def test_repetition_penalty_equals_generate(loaded: LoadedModel) -> None:
    (drawn,) = transformers_engine(loaded, spec(temperature=0.0, repetition_penalty=1.3)).draw(requests(LONG))
    out = loaded.model.generate(
        input_ids=torch.tensor([LONG]), max_new_tokens=16, do_sample=False, repetition_penalty=1.3, pad_token_id=0
    )
    assert tuple(out[0, 33 : 33 + len(drawn.ids)].tolist()) == drawn.ids


def test_the_checkpoints_generation_config_is_not_consulted(loaded: LoadedModel) -> None:
    wanted = transformers_engine(loaded, spec()).draw(requests(SHORT, n=3))
    loaded.model.generation_config.repetition_penalty = 5.0
    loaded.model.generation_config.top_k = 1
    assert transformers_engine(loaded, spec()).draw(requests(SHORT, n=3)) == wanted


def test_paper_error_10_padding_side_unset_in_generation() -> None:
    loaded = tiny_models.loaded_tiny("qwen2")
    loaded.tokenizer.padding_side = "right"
    engine = transformers_engine(loaded, spec(temperature=0.0))
    assert engine.draw(requests(SHORT, LONG))[0] == engine.draw(requests(SHORT))[0]


def test_bfloat16_draws_and_stops(loaded: LoadedModel) -> None:
    half = tiny_models.wrap(tiny_models.with_lora(tiny_models.tiny_model("gemma3").to(torch.bfloat16)))
    drawn = transformers_engine(half, spec(max_new_tokens=40)).draw(requests(SHORT, LONG, n=3))
    assert all(0 < len(one.ids) <= 40 or one.finish_reason == "stop" for one in drawn)
    assert len(set(drawn)) == 6


def test_replay_counts_what_the_file_lacks() -> None:
    with pytest.raises(DataError, match="2 of 2 samples asked for are not in that file, which has 0"):
        ReplayEngine([], run_seed=0).draw(requests(SHORT, n=2))


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_states_kept_are_those_at_the_last_id_of_each_response(kind: str) -> None:
    """Rows that join and leave carry their own states; a response the model did not end, or an empty one, has none."""
    model = tiny_models.loaded_tiny(kind)
    model.model.generation_config.eos_token_id = list(range(1, 11))
    options = spec(temperature=1.5, max_new_tokens=12, engine=TransformersEngine(rows=3))
    wanted = requests(SHORT, LONG, n=8)
    drawn = transformers_engine(model, options, keep_states=True).draw(wanted)
    kept = [(request, one) for request, one in zip(wanted, drawn, strict=True) if one.states_LD is not None]
    assert len(kept) == sum(one.finish_reason == "stop" and bool(one.ids) for one in drawn) > 6
    for request, one in kept:
        with torch.no_grad():
            out = model.model(input_ids=torch.tensor([request.prompt_ids + one.ids]), output_hidden_states=True)
        states = torch.stack([layer[0, -1] for layer in out.hidden_states])
        torch.testing.assert_close(one.states_LD, states, atol=1e-5, rtol=1e-5)
    assert all(one.states_LD is None for one in transformers_engine(model, options).draw(wanted))
