"""A chat model behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, ``transformers serve``, hosted).

The ``openai`` client retries, with growing pauses, what may pass (time-outs, 408, 409, 429, 5xx); what it gives up on
is a ``RemoteError``. Requests are counted, so that a budget holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from dalign.chat import Message
from dalign.errors import ModelError, RemoteError
from dalign.records import digest
from dalign.specs.remote import EndpointSpec

T = TypeVar("T")
R = TypeVar("R")


class Endpoint:
    """The model that ``spec`` names. ``used`` counts the requests, without the client's retries; safe among threads.

    Raises ``ModelError`` if the client is not installed or the key's environment variable is not set.
    """

    def __init__(self, spec: EndpointSpec) -> None:
        try:
            import openai
        except ImportError as error:
            raise ModelError("an endpoint needs the package openai: pip install 'dalign[server]'") from error
        key = os.environ.get(spec.key_env) if spec.key_env is not None else "none"
        if not key:
            raise ModelError(f"{spec.url}: the environment variable {spec.key_env} is not set; put the key there")
        self.spec = spec
        self.used = 0
        self._lock = Lock()
        self._errors: Any = openai
        self._client: Any = openai.OpenAI(
            base_url=spec.url, api_key=key, timeout=spec.timeout_s, max_retries=spec.retries
        )

    def ask(self, messages: Sequence[Message], *, seed: int) -> str:
        """The reply to ``messages``, empty where the server sent none. Raises ``RemoteError`` once retrying is over, or
        where the budget is spent."""
        self._count()
        spec = self.spec
        try:
            answer = self._client.chat.completions.create(
                model=spec.model,
                messages=[dict(m) for m in messages],
                temperature=spec.temperature,
                max_tokens=spec.max_tokens,
                seed=seed,
            )
            return str(answer.choices[0].message.content or "")
        except self._errors.AuthenticationError as error:
            raise RemoteError(f"{spec.url}: the key in {spec.key_env} was refused ({_first_line(error)})") from error
        except self._errors.OpenAIError as error:
            raise RemoteError(
                f"{spec.url}: no reply from {spec.model} after {spec.retries + 1} attempts ({_first_line(error)}); "
                "what was finished is kept: run the command again once the server answers"
            ) from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RemoteError(f"{spec.url}: its reply is not in the OpenAI format ({_first_line(error)})") from error

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``work`` on every item, in order, ``concurrency`` of them at once. The first that raises ends the others."""
        with ThreadPoolExecutor(self.spec.concurrency) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _count(self) -> None:
        with self._lock:
            if self.spec.max_requests is not None and self.used >= self.spec.max_requests:
                raise RemoteError(
                    f"{self.spec.url}: the budget of {self.spec.max_requests} requests is spent; what was finished is "
                    "kept: raise max_requests and run the command again"
                )
            self.used += 1


def between_marks(texts: Mapping[str, str]) -> str:
    """Others' texts by name, each between marker lines that none of them can contain, so that none can end its own."""
    mark = digest(*texts.values())
    return "\n\n".join(f"[{name} {mark} BEGINS]\n{text}\n[{name} {mark} ENDS]" for name, text in texts.items())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
