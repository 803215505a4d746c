"""How a worker comes to be one of several: it reads its rank from the environment, and waits for the others.

``dalign.launch`` sets it (a rendezvous by a file: no port that another job could take), or ``torchrun`` does.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from dalign.errors import ConfigError, LostPeerError, guarded
from dalign.ranks import ALONE, Ranks
from dalign.specs.stage import TrainerSpec

ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
STORE = "DALIGN_RENDEZVOUS"
ARRIVAL = timedelta(minutes=10)  # until all processes have imported what they need
PATIENCE = timedelta(hours=12)  # the longest that one draws, judges or writes while the others wait
_OTHERS = ("TORCHELASTIC_", "GROUP_", "ROLE_")


@contextmanager
def joined(trainer: TrainerSpec) -> Iterator[Ranks]:
    """The processes of this job; ``ALONE`` where the environment names no rank.

    Raises ``ConfigError`` if they are not as many as ``trainer`` says, a GPU is asked for and not seen, or one does not
    come within ten minutes. On the way out all wait for each other, unless an error is on its way.
    """
    if "RANK" not in os.environ:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    require_as_many(trainer, ranks)
    from torch import distributed

    _join(trainer, ranks, os.environ.get(STORE))
    forget(os.environ)
    yield ranks
    ranks.wait()
    distributed.destroy_process_group()


def ended(job: Callable[[], int]) -> int:
    """The exit code of ``job``, as ``guarded`` gives it. A process that is one of several ends here if that is not 0.

    It does not shut down in good order: the threads of a transport whose other end is gone abort the interpreter, and
    those of a GPU's wait for processes that wait for this one.
    """
    if "RANK" not in os.environ:
        return guarded(job)
    try:
        code = guarded(job)
    except Exception:
        traceback.print_exc()
        code = 1
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def require_as_many(trainer: TrainerSpec, ranks: Ranks) -> None:
    """Raises ``ConfigError`` unless ``ranks`` are the processes that ``trainer`` asks for: a model trained by fewer
    would have seen a part of its data."""
    if trainer.devices != ranks.world or trainer.processes != ranks.world:
        raise ConfigError(
            f"trainer.devices={trainer.devices} with trainer.strategy={trainer.strategy}, and the processes that train "
            f"are {ranks.world}; give trainer.devices={ranks.world}, and for several trainer=ddp (GPUs) or "
            "trainer=ddp_cpu"
        )


def forget(environment: MutableMapping[str, str]) -> None:
    """Takes the ranks out of ``environment``: Lightning would make a distributed strategy of its own of them."""
    for name in [n for n in environment if n in (*ENVIRONMENT, STORE) or n.startswith(_OTHERS)]:
        del environment[name]


def _join(trainer: TrainerSpec, ranks: Ranks, file: str | None) -> None:
    import torch
    from torch import distributed
    from torch.distributed import FileStore  # type: ignore[attr-defined]  # torch means to export it
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    gpus = trainer.accelerator == "gpu"
    if gpus and not torch.cuda.is_available():
        raise ConfigError(
            f"trainer={trainer.name}: process {ranks.rank} of {ranks.world} sees no GPU; give trainer.devices= as many "
            "as there are, or trainer=ddp_cpu"
        )
    here = [f"here/{rank}" for rank in range(ranks.world)]
    try:
        found: Any = FileStore(file, ranks.world) if file else next(rendezvous("env://", timeout=ARRIVAL))[0]
        store = PrefixStore("dalign", found)
        store.set(here[ranks.rank], "1")
        store.wait(here, ARRIVAL)
    except RuntimeError as error:
        raise LostPeerError(
            f"process {ranks.rank} waited {ARRIVAL} for the other {ranks.world - 1} in vain: {error}"
        ) from error
    # Objects travel on the CPU even between GPUs: they are small, and made of Python's own types.
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.world, timeout=PATIENCE)
