"""What a process that computes sets up first: torch's threads, and libraries that keep quiet."""

from __future__ import annotations

import logging
import os
import warnings


def set_threads(threads: int, *, sharing: int = 1) -> None:
    """Sets torch's threads; 0 takes every core this process may use, or its part of them where ``sharing`` processes
    of one job do."""
    import torch

    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // sharing))


def quiet() -> None:
    """Silences the libraries' own chatter; what a user should know, dalign says itself."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"(lightning|torch|transformers|peft|bitsandbytes)\b"
    )
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "bitsandbytes", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
