"""Loads a causal language model with its adapter, and switches the adapter off in place: that is the base.

The base is the same weights with the adapter off, so one model is in memory. peft's own ``disable_adapter``
computes a model-wide status and touches ``requires_grad`` at each entry; here the layers' flag alone is flipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dalign.adapters import attach, checkpoint_hash, new_adapter, reason_of, rows_of
from dalign.chat import Chat
from dalign.errors import ModelError
from dalign.records import digest
from dalign.specs.model import HUB_ID, TOY_IDS, ModelSpec
from dalign.specs.run import PathsSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class LoadedModel:
    """A model ready to train, sample or score. ``model`` is a ``PeftModel`` where an adapter is attached.

    ``added`` says where the base's rows for the adapter's added tokens come from, None where there are none.
    """

    model: Any
    tokenizer: Any
    chat: Chat
    spec: ModelSpec
    own_hash: str
    base_hash: str
    adapter_hash: str | None
    second: Any | None = None
    own_vocab: int | None = None
    added: str | None = None
    _switches: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._switches = [m for m in self.model.modules() if hasattr(m, "_disable_adapters")]

    @property
    def config(self) -> Any:
        config = self.model.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    @property
    def n_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def width(self) -> int:
        return int(self.config.hidden_size)

    @property
    def vocab(self) -> int:
        return int(self.config.vocab_size)

    @property
    def base_vocab(self) -> int:
        """The number of ids that the base had before any adapter added its own: likelihoods compare over these."""
        return min(self.vocab, rows_of(self.base_model()) if self.own_vocab is None else self.own_vocab)

    @property
    def context(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        return int(self.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def pad_id(self) -> int:
        """An id to fill padding with; masked everywhere, so any will do where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.eos_ids[0])

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends a response: the generation config's, the tokenizer's, and the template's turn end."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = list(configured) if isinstance(configured, list | tuple) else [configured]
        found = [self.chat.end_id, self.tokenizer.eos_token_id, *ids]
        return tuple(dict.fromkeys(int(i) for i in found if i is not None))

    @property
    def policy_hash(self) -> str:
        return digest(self.own_hash, self.adapter_hash)

    @property
    def base_words(self) -> str:
        """What scores attribute to, for people."""
        rows = f"; its rows of the adapter's own tokens are {self.added}" if self.added else ""
        if self.second is None:
            return f"the same weights with the adapter off{rows}"
        return f"{self.spec.base}, a second checkpoint: two models in memory{rows}"

    def save_adapter(self, folder: Path) -> None:
        """Writes a plain PEFT folder with safetensors, which ``PeftModel.from_pretrained`` loads."""
        self.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)

    @property
    def has_base(self) -> bool:
        """Whether there is something to attribute to: an adapter to switch off, or a second checkpoint."""
        return bool(self._switches) or self.second is not None

    def base_model(self) -> Any:
        """What to attribute to, under ``adapter_off()``: the second checkpoint if one is named, else this model."""
        return self.second if self.second is not None else self.model

    @contextmanager
    def adapter_off(self) -> Iterator[None]:
        """The base: every adapter layer passes its input through, whatever happens inside is undone on exit."""
        before = [m._disable_adapters for m in self._switches]
        try:
            for module in self._switches:
                module._disable_adapters = True
            yield
        finally:
            for module, flag in zip(self._switches, before, strict=True):
                module._disable_adapters = flag


def load_model(
    spec: ModelSpec,
    *,
    adapter: Path | str | None = None,
    trainable: bool = False,
    new_lora: bool = False,
    paths: PathsSpec | None = None,
    world_seed: int = 0,
) -> LoadedModel:
    """The model of ``spec``, in evaluation mode, with ``adapter`` (a PEFT folder or ``HUB_ID@REVISION``) or a new LoRA.

    Raises ``ModelError`` for a checkpoint or adapter that is missing, unreadable, gated, pickled or of another shape.
    """
    own = resolve_source(spec.id, spec.revision, paths=paths, world_seed=world_seed)
    model, tokenizer = load_checkpoint(spec, *own)
    base, second = own, None
    if spec.base is not None:
        base = resolve_source(spec.base, spec.base_revision, paths=paths, world_seed=world_seed)
        second = _second_checkpoint(spec, base, model)
    own_vocab = rows_of(second if second is not None else model)
    adapter_hash, added = None, None
    if adapter is not None:
        found = attach(model, tokenizer, adapter, trainable=trainable, second=second)
        model, tokenizer, adapter_hash, added = found.model, found.tokenizer, found.hash, found.added
    elif new_lora:
        model = new_adapter(model, tokenizer, spec.lora)
    model.eval()
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        chat=Chat(tokenizer, spec.think, spec.system),
        spec=spec,
        own_hash=weights_hash(spec, own, added),
        base_hash=weights_hash(spec, base, added),
        adapter_hash=adapter_hash,
        second=second,
        own_vocab=own_vocab,
        added=added,
    )


def weights_hash(spec: ModelSpec, checkpoint: tuple[str, str | None], added: str | None = None) -> str:
    """Of a checkpoint as it stands in memory: in the spec's precision, with the rows that an adapter added."""
    return digest(checkpoint_hash(*checkpoint), spec.dtype, spec.quantisation, *([added] if added else []))


def _second_checkpoint(spec: ModelSpec, base: tuple[str, str | None], student: Any) -> Any:
    """The checkpoint of ``model.base``. Raises ``ModelError`` unless states and ids compare with the student's."""
    second, _ = load_checkpoint(spec, *base)
    check_shape(f"model.base={spec.base}", second, student)
    return second


def check_shape(named: str, other: Any, student: Any) -> None:
    """Raises ``ModelError``, beginning with ``named``, unless both models have as many layers of one width."""
    (theirs, width), (ours, our_width) = ((m.config.num_hidden_layers, m.config.hidden_size) for m in (other, student))
    if (theirs, width) != (ours, our_width):
        raise ModelError(
            f"{named}: {theirs} layers of width {width}, and the student has {ours} of {our_width}; "
            "states compare between models of one shape alone"
        )


def resolve_source(
    name: str, revision: str | None, *, paths: PathsSpec | None, world_seed: int, role: str = "base"
) -> tuple[str, str | None]:
    """Where a checkpoint is: the embedded world's folder for ``toy`` (the model ``role``) and ``toy:ROLE``, else the
    name itself (folder, file or hub id)."""
    if name not in TOY_IDS:
        return str(Path(name).expanduser()) if Path(name).expanduser().exists() else name, revision
    from dalign.toy.assets import toy_models

    cache = Path((paths or PathsSpec()).cache).expanduser()
    return str(toy_models(world_seed, cache) / (name.partition(":")[2] or role)), None


def _device(spec: ModelSpec) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if spec.device == "auto" else spec.device


def load_checkpoint(spec: ModelSpec, source: str, revision: str | None, *, role: str = "model.id") -> tuple[Any, Any]:
    """(model, tokenizer) of a checkpoint in the spec's precision, on its device. ``role`` names it in the
    ``ModelError`` that is raised if it cannot be loaded."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    if revision is not None:
        options["revision"] = revision
    where = source
    weights: dict[str, Any] = {"dtype": DTYPES[spec.dtype], "attn_implementation": spec.attention}
    if source.endswith(".gguf"):
        from transformers import GgufConfig

        where, options["gguf_file"] = str(Path(source).parent), Path(source).name
        weights["quantization_config"] = GgufConfig(dequantize=True)
    else:
        weights["use_safetensors"] = True
    if not Path(source).exists() and not HUB_ID.fullmatch(where):
        raise ModelError(f"{role}={source!r}: no such file or folder; mend the path, or name a hub id (OWNER/NAME)")
    if spec.quantisation == "nf4":
        from transformers import BitsAndBytesConfig

        weights["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPES[spec.dtype]
        )
        weights["device_map"] = {"": _device(spec)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model = AutoModelForCausalLM.from_pretrained(where, **options, **weights)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"{role}={source!r} (revision {revision or 'none'}) cannot be loaded: {reason_of(error)}\n"
            "  name a folder with safetensors, a .gguf file, or a hub id this machine can reach (see `dalign doctor`)"
        ) from error
    return model if spec.quantisation == "nf4" else model.to(_device(spec)), tokenizer
