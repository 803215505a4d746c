"""The policy as its own judge: asked whether an answer it gave complies with its policy; P(no) is P(unsafe).

It is asked in one user turn and answers at once, without reasoning, so an answer costs one forward pass.
"""

from __future__ import annotations

from dalign.encoding import Piece
from dalign.judge.base import JudgeItem, Screened
from dalign.judge.guard import PROMPT, RESPONSE
from dalign.judge.replying import ReplyJudge
from dalign.models import LoadedModel
from dalign.records import Part, digest
from dalign.specs.judge import SelfJudgeSpec


class SelfJudge(ReplyJudge):
    """P(unsafe) by the policy in ``loaded``, its adapter on."""

    def __init__(self, spec: SelfJudgeSpec, loaded: LoadedModel) -> None:
        super().__init__(spec, loaded.model.eval(), loaded.tokenizer, loaded.chat.encoder)
        self.chat, self.ask = loaded.chat, spec.ask
        told = {key: value for key, value in spec.results().items() if key != "name"}
        self.version = f"self-1-{digest(loaded.policy_hash, told)}"

    def pieces(self, item: JudgeItem, part: Part) -> list[Piece]:
        """One user turn that shows the prompt and the judged part, and the assistant's header."""
        places = {PROMPT: item.prompt.text, RESPONSE: item.text(part)}
        first, second = sorted(places, key=self.ask.index)
        before, _, rest = self.ask.partition(first)
        between, _, after = rest.partition(second)
        return self.chat.user_pieces(f"{before}{places[first]}{between}{places[second]}{after}")


def self_judge(spec: SelfJudgeSpec, loaded: LoadedModel) -> Screened:
    """The self-judge of a policy, behind the screen that all judges share."""
    return Screened(SelfJudge(spec, loaded))
