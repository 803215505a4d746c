"""python train.py stage=traces|distill|probe|pretrain model=... run=NAME: one stage of the way, or a sweep with -m."""

import sys

from dalign.cli import train

if __name__ == "__main__":
    sys.exit(train())
