"""An agent behind an HTTP interface in the form of OpenAI's: POST /v1/completions, GET /v1/models."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from .admission import Admission, Room, error
from .completion_request import CompletionRequest
from .completions import Completer, Piece, Refused

try:
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response, StreamingResponse
    from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
    from starlette.exceptions import HTTPException
except ImportError:
    raise ImportError('the HTTP interface needs the library fastapi; pip install "tokenlm[web]"') from None

_SEEDS = 2**31
_SHOWN = 100  # characters of a value in a message


def app_of(completer: Completer, room: Room | None = None) -> FastAPI:
    """The interface as an app.

    Args:
        completer: writes the texts.
        room: how many requests it takes, and of which size.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(Admission, room=room or Room())

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(completer)]}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        if name != completer.name:
            raise Refused(
                f"the model {name!r} does not exist; this server has {completer.name!r}",
                "model",
                404,
                "model_not_found",
            )
        return _model(completer)

    @app.post("/v1/completions")
    async def completions(request: CompletionRequest) -> Response:
        answer = Answer(completer, request)
        if request.stream:
            return StreamingResponse(_events(answer), media_type="text/event-stream")
        return JSONResponse(await run_in_threadpool(answer.whole))

    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _not_found)
    for kind in (ValueError, ArithmeticError, MemoryError):  # of a text that cannot be written
        app.add_exception_handler(kind, _failed)
    return app


class Answer:
    """The answer to a request.

    Args:
        completer: writes the texts.
        request: what is asked for.

    Raises Refused where it cannot be answered.
    """

    def __init__(self, completer: Completer, request: CompletionRequest) -> None:
        self._completer, self._request = completer, request
        self._prompts, self._how = completer.checked(request)
        self._seed = secrets.randbelow(_SEEDS) if request.seed is None else request.seed
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time()),
            "model": completer.name,
        }  # fmt: skip
        self._written = 0

    def whole(self) -> dict[str, Any]:
        """All texts at once."""
        choices: dict[int, dict[str, Any]] = {}
        for index, piece in self._pieces():
            choice = choices.setdefault(index, _choice(index, self._request.logprobs))
            choice["finish_reason"] = piece.finish
            _add(choice, piece)
        return {**self._head, "choices": list(choices.values()), "usage": self._usage()}

    def parts(self) -> Iterator[dict[str, Any]]:
        """The texts one after the other, piece by piece."""
        for index, piece in self._pieces():
            if piece.text or piece.finish or self._request.logprobs is not None:
                choice = _choice(index, self._request.logprobs)
                choice["finish_reason"] = piece.finish
                _add(choice, piece)
                yield {**self._head, "choices": [choice]}
        if (self._request.stream_options or {}).get("include_usage"):
            yield {**self._head, "choices": [], "usage": self._usage()}

    def _pieces(self) -> Iterator[tuple[int, Piece]]:
        rows = [prompt for prompt in self._prompts for _ in range(self._request.n)]
        for index, prompt in enumerate(rows):
            settings = self._how, self._seed + index, self._request.logprobs, self._request.echo
            for piece in self._completer.pieces(prompt, *settings):
                self._written += piece.token is not None
                yield index, piece

    def _usage(self) -> dict[str, int]:
        read = sum(len(prompt) - 1 for prompt in self._prompts)  # without <bos>
        return {"prompt_tokens": read, "completion_tokens": self._written, "total_tokens": read + self._written}


async def _events(answer: Answer) -> AsyncIterator[str]:
    """Server-sent events of a stream; an error that happens in the middle is the last one."""
    try:
        async for part in iterate_in_threadpool(answer.parts()):
            yield f"data: {json.dumps(part, ensure_ascii=False)}\n\n"
    except (ValueError, ArithmeticError, MemoryError) as problem:
        yield f"data: {json.dumps(error(str(problem), 500), ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"


def _model(completer: Completer) -> dict[str, Any]:
    return {"id": completer.name, "object": "model", "created": completer.created, "owned_by": "tokenlm"}


def _choice(index: int, logprobs: int | None) -> dict[str, Any]:
    told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    return {"text": "", "index": index, "logprobs": None if logprobs is None else told, "finish_reason": None}


def _add(choice: dict[str, Any], piece: Piece) -> None:
    told = choice["logprobs"]
    if told is not None and piece.token is not None:
        told["text_offset"].append(sum(map(len, told["tokens"])))
        told["tokens"].append(piece.token)
        told["token_logprobs"].append(piece.log_prob)
        told["top_logprobs"].append(piece.top)
    choice["text"] += piece.text


def error_response(message: str, status: int, parameter: str | None = None, code: str | None = None) -> JSONResponse:
    """An error in OpenAI's form."""
    return JSONResponse(error(message, status, parameter, code), status)


async def _refused(_: Request, problem: Any) -> Response:
    return error_response(str(problem), problem.status, problem.parameter, problem.code)


async def _failed(_: Request, problem: Any) -> Response:
    return error_response(str(problem), 400)


async def _malformed(_: Request, problem: Any) -> Response:
    """The first of the mistakes in a body, in one sentence."""
    first = problem.errors()[0]
    if first["type"] == "json_invalid":
        return error_response("the body is not JSON", 400)
    names = [str(name) for name in first["loc"] if name != "body"]
    if not names:
        # What was not sent as JSON comes as bytes.
        header = " with the header Content-Type: application/json" if isinstance(problem.body, bytes) else ""
        return error_response(f"the body must be a JSON object of settings by name{header}", 400)
    if first["type"] == "extra_forbidden":
        return error_response(f"there is no parameter {names[0]!r}", 400, names[0])
    if names[0] == "prompt":
        return error_response("prompt must be a text or a list of texts", 400, "prompt")
    message = first["msg"][0].lower() + first["msg"][1:]
    given = repr(first.get("input"))
    given = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…"
    return error_response(f"{names[0]}: {message}, not {given}", 400, names[0])


async def _not_found(request: Request, problem: Any) -> Response:
    if problem.status_code == 400:  # FastAPI's for a body that it cannot decode, or that is nested too deeply
        return error_response("the body is not JSON in UTF-8, or goes beyond what is read", 400)
    known = "POST /v1/completions and GET /v1/models are"
    return error_response(f"{request.method} {request.url.path} is not answered here; {known}", problem.status_code)
