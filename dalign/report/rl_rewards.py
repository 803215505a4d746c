"""Who rewarded: the judges and forms that RL's own configuration names, on which kinds of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dalign.errors import ArtifactError
from dalign.train.rewards import KINDS


@dataclass(frozen=True)
class Rewarding:
    """``rewards`` as the configuration has them, each with its judge's name under ``judge``; those of weight 0 are
    none. ``known`` is false where there is no configuration."""

    rewards: tuple[dict[str, Any], ...]
    known: bool = True

    def judged(self, judge: str, kind: str, reading: str | None) -> bool:
        """Whether the judge of that name rewarded answers to prompts of that kind, by that reading if it grades."""
        return any(
            reward["judge"] == judge
            and kind in (_kinds(reward) or (kind,))
            and (reward["kind"] != "correct" or reward.get("reading", "flexible") == reading)
            for reward in self.rewards
        )

    def form(self, kind: str) -> bool:
        """Whether ``finished`` or ``length`` was rewarded."""
        return any(reward["kind"] == kind for reward in self.rewards)


def read_rewards(folder: Path) -> Rewarding:
    """The rewards of the RL stage in ``folder``, none where it lies elsewhere. Raises ``ArtifactError`` for a
    configuration that is not one of RL."""
    path = folder / "config.yaml"
    if not path.is_file():
        return Rewarding((), known=False)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        rewards = [reward for reward in config["stage"]["rewards"].values() if reward.get("weight", 1.0)]
        names = [config["judges"][r["judge"]]["name"] if r.get("judge") else None for r in rewards]
        found = [
            {**reward, "judge": name, "kind": str(reward["kind"])} for reward, name in zip(rewards, names, strict=True)
        ]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: not readable as the configuration of stage=grpo ({error!r})") from error
    return Rewarding(tuple(found))


def _kinds(reward: dict[str, Any]) -> tuple[str, ...]:
    """The kinds of prompts that a reward is about; empty for all."""
    return tuple(reward.get("kinds") or KINDS.get(reward["kind"], ()))
