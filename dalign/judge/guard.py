"""Guards that are language models (Llama Guard 3, WildGuard, HarmBench's classifier): a verdict without generating.

The prompt to the guard is built from ids, so control strings in prompts and responses stay text (HarmBench #91).
"""

from __future__ import annotations

from pathlib import Path

from dalign.adapters import checkpoint_hash
from dalign.chat import Chat
from dalign.encoding import Encoder, Piece
from dalign.errors import DataError
from dalign.judge.base import JudgeItem
from dalign.judge.replying import ReplyJudge
from dalign.models import load_checkpoint
from dalign.records import Part, digest
from dalign.specs.judge import GuardSpec
from dalign.specs.model import ModelSpec, ThinkSpec

PROMPT, RESPONSE = "{prompt}", "{response}"


class Guard(ReplyJudge):
    """P(unsafe) by the guard of ``spec``. Raises ``ModelError`` if it cannot be loaded, ``DataError`` for a template
    file that is missing or lacks one of its two places."""

    def __init__(self, spec: GuardSpec) -> None:
        source = str(Path(spec.id).expanduser()) if Path(spec.id).expanduser().exists() else spec.id
        model = ModelSpec(
            name=spec.name,
            id=source,
            revision=spec.revision,
            dtype=spec.dtype,
            quantisation=spec.quantisation,
            device=spec.device,
        )
        template = _template(spec)
        loaded, tokenizer = load_checkpoint(model, source, spec.revision, role=f"judge {spec.name}")
        self.template = template
        self.chat = None if template else Chat(tokenizer, ThinkSpec(where="none"))
        encoder = self.chat.encoder if self.chat else Encoder(tokenizer, template=template or "")
        super().__init__(spec, loaded.eval(), tokenizer, encoder)
        told = {k: v for k, v in spec.results().items() if k not in ("name", "id", "revision", "template")}
        self.version = f"guard-1-{digest(checkpoint_hash(source, spec.revision), told, template)}"

    def pieces(self, item: JudgeItem, part: Part) -> list[Piece]:
        """What the guard reads, before its reply: its template around the prompt and the judged part."""
        text = item.text(part)
        if self.chat is not None:
            turns = [{"role": "user", "content": item.prompt.text}, {"role": "assistant", "content": text}]
            return self.chat.prompt_pieces(turns)
        assert self.template is not None
        before, _, rest = self.template.partition(PROMPT)
        between, _, after = rest.partition(RESPONSE)
        return [(before, False), (item.prompt.text, True), (between, False), (text, True), (after, False)]


def _template(spec: GuardSpec) -> str | None:
    """The template file's text without the line break that ends a file. Raises ``DataError`` if it is missing or does
    not hold both places once, in order."""
    if spec.template is None:
        return None
    path = Path(spec.template).expanduser()
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"judge {spec.name}: {path}: cannot be read ({error})") from error
    if (text.count(PROMPT), text.count(RESPONSE)) != (1, 1) or text.index(PROMPT) > text.index(RESPONSE):
        raise DataError(f"judge {spec.name}: {path}: a template holds {PROMPT} and then {RESPONSE}, once each")
    return text
