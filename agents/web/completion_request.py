"""The body of a request for completions."""

from __future__ import annotations

from typing import Annotated, Any

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
except ImportError:
    raise ImportError('the HTTP interface needs the library pydantic; pip install "tokenlm[web]"') from None

_MOST_LOGPROBS = 20


class CompletionRequest(BaseModel):
    """The body of POST /v1/completions: OpenAI's fields, and top_k.

    Fields that change nothing here (`user`), or do so at their default alone (the penalties), are accepted at that.
    """

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    prompt: str | list[str] = ""
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    n: Annotated[int, BeforeValidator(lambda n: 1 if n is None else n)] = Field(1, ge=1)
    best_of: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    logprobs: int | None = Field(None, ge=0, le=_MOST_LOGPROBS)
    echo: bool = False
    seed: int | None = Field(None, ge=0)
    suffix: str | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, float] | None = None
    user: str | None = None
