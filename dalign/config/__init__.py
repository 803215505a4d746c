"""From a command line to checked specs: composed by Hydra, bound to specs, all faults told at once; free of torch."""

from dalign.config.binding import bind
from dalign.config.places import config_dir
from dalign.config.start import check, prepare
from dalign.config.sweep import in_sweep

__all__ = ["bind", "check", "config_dir", "in_sweep", "prepare"]
