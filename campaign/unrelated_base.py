"""A base of the embedded world that shares no weight's origin with the world's own: python campaign/unrelated_base.py
--world-seed 0 --out FOLDER [--init 1]

The same corpus in the same batches, the same shape, vocabulary and schedule as ``stage=pretrain``'s base; only the
numbers that training starts from are others. Its folder is what ``train.py stage=control stage.unrelated=FOLDER`` takes
(docs/control_scores.md). It prints the mean loss over the last 50 steps and the shares that the world's own base is
built for, so that it can be seen to be as able. A folder that stands already is left alone: exit code 2.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dalign.errors import ConfigError, guarded
from dalign.store import progress_bar
from dalign.toy.assets import toy_models
from dalign.toy.build import BASE_SCHEDULE
from dalign.toy.corpus import base_documents
from dalign.toy.measure import measure_policy
from dalign.toy.training import fit, next_token_loss, text_rows
from dalign.toy.world import World
from dalign.train.muon import muon_in_float32

LAST = 50


def main() -> int:
    """Trains and saves the base; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world-seed", type=int, required=True, help="the world whose corpus it reads")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where it is saved")
    parser.add_argument("--init", type=int, default=1, help="which first weights: another number, another base (1)")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/dalign"), help="where made worlds lie")
    parser.add_argument("--steps", type=int, default=BASE_SCHEDULE.steps, help="fewer for a trial")
    asked = parser.parse_args()
    return guarded(lambda: _make(asked))


def _make(asked: argparse.Namespace) -> int:
    out: Path = asked.out.expanduser()
    if out.exists():
        raise ConfigError(f"--out {out}: stands already; name another folder, or delete it")
    own = toy_models(asked.world_seed, asked.cache.expanduser()) / "base"
    world, tokenizer = World.of(asked.world_seed), AutoTokenizer.from_pretrained(own)
    torch.manual_seed(1000 * (asked.world_seed + 1) + asked.init)
    model = LlamaForCausalLM(AutoConfig.from_pretrained(own, dtype=torch.float32))
    losses = _train(model, world, tokenizer, asked.steps)
    print(f"mean loss of the last {LAST} steps: {sum(losses[-LAST:]) / len(losses[-LAST:]):.3f}")
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    os.replace(fresh, out)
    print(f"saved: {out}")
    for name, value in measure_policy(world, model.float(), tokenizer, thinks=False).items():
        print(f"  {name}: {value:.3f}")
    return 0


def _train(model: LlamaForCausalLM, world: World, tokenizer: PreTrainedTokenizerFast, steps: int) -> list[float]:
    """The loss of every step; fewer ``steps`` are a whole schedule, only shorter."""
    losses: list[float] = []
    rows, seed = text_rows(base_documents(world), tokenizer), f"toy/{world.seed}/batches/base"
    with muon_in_float32(), progress_bar(f"another base of world {world.seed}") as bar:

        def report(step: int, loss: float) -> None:
            losses.append(loss)
            bar(step, steps)

        schedule = replace(BASE_SCHEDULE, steps=steps)
        fit(model, rows, schedule, next_token_loss, pad=int(tokenizer.pad_token_id), seed=seed, report=report)
    return losses


if __name__ == "__main__":
    sys.exit(main())
