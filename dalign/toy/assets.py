"""Where the kingdom's models lie: seed 0 in the package, other seeds in a cache that ``make world`` fills."""

from __future__ import annotations

from pathlib import Path

from dalign.errors import DataError

PACKAGED = Path(__file__).parent / "assets"
MODELS = ("base", "teacher", "guard")


def toy_models(seed: int, cache: Path | None = None) -> Path:
    """The folder of a seed's ``base``, ``teacher`` and ``guard``: ``cache/seedN`` if complete, else the package's.

    Raises ``DataError`` with the remedy where the seed's models are not there or not complete.
    """
    places = [place / f"seed{seed}" for place in (cache, PACKAGED) if place is not None]
    for place in places:
        if all((place / name / "config.json").is_file() for name in MODELS) and (place / "world.json").is_file():
            return place
    looked = " and ".join(map(str, places))
    raise DataError(f"toy world seed {seed}: no complete models in {looked}; make them with `make world SEED={seed}`")
