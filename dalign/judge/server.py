"""A chat model behind an endpoint as a judge, in this project's own words: a verdict, StrongREJECT's grades, a rating.

What is judged stands between marker lines that it cannot contain, so it cannot end them. A reply that cannot be read is
asked for again with another seed, then recorded as unscored: it never becomes a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from dalign.control_tokens import Behind
from dalign.errors import DataError
from dalign.judge.base import JudgeItem, unscored
from dalign.judge.markers import MARKERS, strings_of
from dalign.judge.opinions import READERS, Opinion
from dalign.records import Part, Verdict, digest
from dalign.remote import Endpoint, between_marks
from dalign.specs.judge import ServerJudgeSpec


class ServerJudge:
    """The judge of ``spec``. ``control_strings`` are those of the tokenizer that ``spec`` names, else the markers of
    common chat formats: what it is sent is text all the same, and its server's template may read it as more.

    Raises ``ModelError`` for an endpoint that cannot be used or a tokenizer that cannot be loaded, ``DataError`` for an
    instruction file that cannot be read."""

    def __init__(self, spec: ServerJudgeSpec) -> None:
        self.spec, self.name = spec, spec.name
        self.endpoint = Endpoint(spec.endpoint)
        self.instruction = _instruction(spec)
        told = spec.tokenizer
        self.control_strings = MARKERS if told is None else strings_of(told, judge=spec.name)
        self.control_endpoint: Behind = "markers" if told is None else "tokenizer"
        self.version = f"server-1-{digest(spec.results(), self.instruction)}"

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """One verdict an item, in order, ``endpoint.concurrency`` asked at once. Raises ``RemoteError`` if the endpoint
        gives out."""
        return self.endpoint.each(lambda item: self._one(item, part), items)

    def message(self, item: JudgeItem, part: Part) -> str:
        """What the judge is sent: the instruction, then prompt and judged part between marker lines."""
        texts = {"REQUEST": item.prompt.text, "RESPONSE": item.text(part)}
        return f"{self.instruction}\n\n{between_marks(texts)}"

    def _one(self, item: JudgeItem, part: Part) -> Verdict:
        messages = [{"role": "user", "content": self.message(item, part)}]
        for attempt in range(self.spec.attempts):
            opinion = READERS[self.spec.task](self.endpoint.ask(messages, seed=attempt))
            if opinion is not None:
                return self._verdict(item, part, opinion)
        return unscored(item, self.name, part, f"verdict off the menu: {self.spec.attempts} replies without one")

    def _verdict(self, item: JudgeItem, part: Part, opinion: Opinion) -> Verdict:
        unsafe = opinion.unsafe if opinion.score is None else opinion.score >= self.spec.threshold
        label, category = ("unsafe", opinion.category) if unsafe else ("safe", "")
        return Verdict(item.sample_id, self.name, part, label, category=category, score=opinion.score)  # type: ignore[arg-type]


def _instruction(spec: ServerJudgeSpec) -> str:
    if spec.instruction is None:
        return files("dalign.judge").joinpath("instructions", f"{spec.task}.md").read_text(encoding="utf-8").strip()
    path = Path(spec.instruction).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"judge {spec.name}: {path}: cannot be read ({error})") from error
