"""python evaluate.py run=NAME policies=[base,distill] benchmark=[a,b]: policies side by side, and their report."""

import sys

from dalign.cli import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
