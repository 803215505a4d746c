"""The contract every engine keeps: order, stopping, independence, frequencies, seeds, equality with ``generate``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import pytest
import tiny_models
import torch
from scipy.stats import chisquare

from dalign.models import LoadedModel
from dalign.records import Sample
from dalign.sample import Drawn, Engine, Request, sample_seed
from dalign.sample.replay import ReplayEngine
from dalign.sample.transformers import transformers_engine
from dalign.specs.sampling import SamplerSpec

RUN_SEED = 7
MakeEngine = Callable[[LoadedModel, SamplerSpec, Sequence[tuple[int, ...]], int], Engine]

RNG = Random(0)
PROMPTS = [tuple(RNG.randrange(2, tiny_models.VOCAB) for _ in range(n)) for n in (3, 17, 30)]


def name_of(prompt: tuple[int, ...]) -> str:
    return "-".join(map(str, prompt))


def requests_for(prompts: Sequence[tuple[int, ...]], n: int) -> list[Request]:
    return [Request(p, sample_seed(RUN_SEED, name_of(p), i)) for p in prompts for i in range(n)]


def in_process(loaded: LoadedModel, spec: SamplerSpec, prompts: Sequence[tuple[int, ...]], n: int) -> Engine:
    return transformers_engine(loaded, spec)


def replayed(loaded: LoadedModel, spec: SamplerSpec, prompts: Sequence[tuple[int, ...]], n: int) -> Engine:
    """What another run drew with the same seeds, its rows in another order."""
    drawn = iter(transformers_engine(loaded, spec).draw(requests_for(prompts, n)))
    rows = [sample(prompt, i, next(drawn)) for prompt in prompts for i in range(n)]
    Random(1).shuffle(rows)
    return ReplayEngine(rows, RUN_SEED)


def sample(prompt: tuple[int, ...], index: int, drawn: Drawn) -> Sample:
    return Sample(
        prompt_id=name_of(prompt),
        index=index,
        policy="distill",
        policy_hash="p",
        sampling_hash="s",
        prompt_ids=prompt,
        response_ids=drawn.ids,
        reasoning="",
        answer="",
        closed=True,
        finish_reason=drawn.finish_reason,
    )


@pytest.fixture(params=[in_process, replayed])
def make(request: pytest.FixtureRequest) -> MakeEngine:
    return request.param


@pytest.fixture(scope="module", params=tiny_models.KINDS)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny_models.loaded_tiny(request.param, layers=2)


def spec(**options: object) -> SamplerSpec:
    return SamplerSpec(name="test", **{"max_new_tokens": 16, **options})


def test_answers_come_in_the_order_of_the_requests(make: MakeEngine, loaded: LoadedModel) -> None:
    engine, requests = make(loaded, spec(), PROMPTS, 3), requests_for(PROMPTS, 3)
    drawn = engine.draw(requests)
    assert len(drawn) == 9
    assert engine.draw(requests[::-1]) == drawn[::-1]
    assert engine.draw([]) == []


def test_a_sample_depends_on_its_prompt_and_seed_alone(make: MakeEngine, loaded: LoadedModel) -> None:
    engine, requests = make(loaded, spec(), PROMPTS, 2), requests_for(PROMPTS, 2)
    together = engine.draw(requests)
    assert [one for request in requests for one in engine.draw([request])] == together
    assert engine.draw(requests[:3]) + engine.draw(requests[3:]) == together


def test_samples_of_a_prompt_differ_and_seeds_reproduce_them(make: MakeEngine, loaded: LoadedModel) -> None:
    requests = requests_for(PROMPTS[:1], 8)
    drawn = make(loaded, spec(), PROMPTS[:1], 8).draw(requests)
    assert len(set(drawn)) == 8
    assert make(loaded, spec(), PROMPTS[:1], 8).draw(requests) == drawn


def test_greedy_equals_generate_token_for_token(make: MakeEngine, loaded: LoadedModel) -> None:
    greedy = spec(temperature=0.0, max_new_tokens=30)
    drawn = make(loaded, greedy, PROMPTS, 1).draw(requests_for(PROMPTS, 1))
    for prompt, one in zip(PROMPTS, drawn, strict=True):
        assert one == generated(loaded, prompt, 30)


def generated(loaded: LoadedModel, prompt: tuple[int, ...], count: int) -> Drawn:
    """What transformers' ``generate`` makes of one unpadded prompt."""
    ids = torch.tensor([prompt])
    out = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=list(loaded.eos_ids),
        pad_token_id=tiny_models.PAD,
    )
    response = out[0, len(prompt) :].tolist()
    stopped = response[-1] in loaded.eos_ids
    return Drawn(tuple(response[:-1] if stopped else response), "stop" if stopped else "length")


def test_every_stopping_id_stops_and_none_is_returned(make: MakeEngine, loaded: LoadedModel) -> None:
    """The likeliest first token is declared the turn's end, beside the model's own EOS."""
    with torch.no_grad():
        likeliest = int(loaded.model(input_ids=torch.tensor([PROMPTS[1]])).logits[0, -1].argmax())
    two_ends = tiny_models.wrap(loaded.model, end_id=likeliest)
    assert set(two_ends.eos_ids) == {tiny_models.EOS, likeliest}
    greedy = spec(temperature=0.0)
    assert make(two_ends, greedy, PROMPTS[1:2], 1).draw(requests_for(PROMPTS[1:2], 1)) == [Drawn((), "stop")]
    warm = spec(temperature=1.5, max_new_tokens=20)
    drawn = make(two_ends, warm, PROMPTS, 8).draw(requests_for(PROMPTS, 8))
    assert {one.finish_reason for one in drawn} == {"stop", "length"}
    assert not any(set(one.ids) & set(two_ends.eos_ids) for one in drawn)
    assert all((len(one.ids) == 20) == (one.finish_reason == "length") for one in drawn)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_sampled_frequencies_are_the_models(make: MakeEngine, temperature: float) -> None:
    """Chi-square on the second token: its law is a sum over the first, so prefill and cache both have to be right."""
    loaded, prompt, n = tiny_models.loaded_tiny("qwen2", layers=2), PROMPTS[0], 3000
    loaded.tokenizer.eos_token_id = loaded.chat.end_id = 96  # one stopping id: those rows have no second token
    loaded.model.generation_config.eos_token_id = 96
    two = spec(temperature=temperature, max_new_tokens=2)
    drawn = make(loaded, two, [prompt], n).draw(requests_for([prompt], n))
    with torch.no_grad():
        both = torch.tensor([(*prompt, first) for first in range(tiny_models.VOCAB)])
        logits = loaded.model(input_ids=both).logits.double() / temperature
    first, second = logits[0, len(prompt) - 1].softmax(-1), logits[:, -1].softmax(-1)
    law = first[:96] @ second[:96]  # first token any but the stopping one, then the second
    observed = Counter(one.ids[1] if len(one.ids) == 2 else 96 for one in drawn if one.ids)
    counts, expected = [0.0], [0.0]
    for token in range(tiny_models.VOCAB):
        if float(law[token]) * n >= 5:
            counts.append(observed[token])
            expected.append(float(law[token]) * n)
    counts[0], expected[0] = n - sum(counts), n - sum(expected)
    assert len(counts) > 10, "too few outcomes to test anything"
    assert chisquare(counts, expected).pvalue > 1e-3
