"""The read API, put together: questions about the fleet as it is and as it might be, and one stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response
from starlette.types import ASGIApp

from roadstead.api import answers, asked, telling, telling_thoughts
from roadstead.api.guard import TOKEN_HEADER, Guard
from roadstead.api.problems import DOCUMENTED, UNRESOLVED_STATUS, ApiCode, ApiProblem, sentence, tell_problems
from roadstead.api.streaming import LineStream, Streams
from roadstead.domain.explanation import Fit
from roadstead.domain.model import ModelKey
from roadstead.domain.release import Artifact
from roadstead.domain.supposition import Supposition
from roadstead.services.model_logs import ModelLogs, Wanted
from roadstead.services.outlook import Outlook, Planned
from roadstead.services.questions import Questions

LINES_LIMIT = 10_000
_ABOUT = (
    "What this operator sees, what it would do and why, and what engines say. Every operator answers; only the leader "
    f"acts. Demands the API token in the header `{TOKEN_HEADER}`."
)
_OWN_FILE = "https://file.invalid/model.gguf"
"""Stands for a file that only its owner has: where it will lie is not asked, so no node has to have it."""

Namespace = Annotated[str, Path(pattern=f"^{asked.NAME}$", max_length=63, description="Namespace of the LocalModel.")]
Name = Annotated[str, Path(pattern=f"^{asked.NAME}$", max_length=253, description="Name of the LocalModel.")]
Drained = Annotated[
    tuple[asked.NodeName, ...],
    Query(max_length=64, description="Nodes that would take nothing more and give up what they have."),
]
Added = Annotated[
    tuple[asked.NodeAndNumber, ...],
    Query(max_length=64, description="NODE or NODE:NUMBER: so many empty nodes like that one, beside it."),
]
Responses = dict[int | str, dict[str, Any]]
NOT_FOUND: Responses = {
    404: {"model": answers.Problem, "description": "There is no such LocalModel (`ModelNotFound`)."}
}
NO_NODE: Responses = {404: {"model": answers.Problem, "description": "There is no such node (`NodeNotFound`)."}}
INVALID: Responses = {
    400: {
        "model": answers.Problem,
        "description": "The body cannot be understood (`InvalidRequest`), or a spec in it (`InvalidSpec`).",
    }
}
UNRESOLVED: Responses = {
    UNRESOLVED_STATUS: {
        "model": answers.Problem,
        "description": "Nobody can say what is behind any of its sources: a reason code, `SourceNotFound` for example.",
    }
}
TOO_MANY: Responses = {
    429: {"model": answers.Problem, "description": "Too many streams are under way (`TooManyStreams`)."}
}
TEXT: Responses = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Lines as they come."}
}


def read_api(*, outlook: Outlook, questions: Questions, logs: ModelLogs, token: Callable[[], str]) -> ASGIApp:
    """The guarded application. ``token`` raises ``OSError`` or ``ValueError`` while there is none."""
    app = FastAPI(
        title="Roadstead read API",
        version="v1",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        responses=DOCUMENTED,
        redirect_slashes=False,
    )
    tell_problems(app)
    _tell_of_the_fleet(app, outlook)
    _answer_questions(app, questions)
    _stream_logs(app, outlook, logs)
    # FastAPI's own way of changing what it derives.
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return Guard(app, token=token)


def _tell_of_the_fleet(app: FastAPI, outlook: Outlook) -> None:
    async def planned() -> tuple[Planned, telling.Origin]:
        latest = await outlook.latest()
        return latest, _origin(latest, outlook)

    @app.get("/v1/models", summary="All models, a row each")
    async def models() -> answers.ModelList:
        return telling.model_list(*await planned())

    @app.get(
        "/v1/models/{namespace}/{name}", summary="One model, with the reason for every choice", responses=NOT_FOUND
    )
    async def model(namespace: Namespace, name: Name) -> answers.ModelAnswer:
        answer = telling.model_answer(*await planned(), namespace=namespace, name=name)
        if answer is None:
            raise _no_such_model(ModelKey(namespace, name))
        return answer

    @app.get("/v1/nodes", summary="All nodes: what they have, what runs there, how well they are known")
    async def nodes() -> answers.NodeList:
        return telling.node_list(*await planned())

    @app.get("/v1/pools", summary="All worker pools: their nodes, and which images they run")
    async def pools() -> answers.PoolList:
        return telling.pool_list(*await planned())

    @app.get("/v1/plan", summary="The last plan: what is done next, and why each node runs what it runs")
    async def plan() -> answers.PlanAnswer:
        return telling.plan_answer(*await planned())


def _answer_questions(app: FastAPI, questions: Questions) -> None:
    async def consequences(supposition: Supposition) -> answers.WhatIfAnswer:
        planned, found = await questions.what_if(supposition)
        return telling_thoughts.what_if_answer(planned, _origin(planned, questions.outlook), found.differences)

    @app.get(
        "/v1/models/{namespace}/{name}/explain",
        summary="Every variant on every kind of node: fit or not, with figures, and what was passed over",
        responses=NOT_FOUND,
    )
    async def explain(namespace: Namespace, name: Name) -> answers.ExplainAnswer:
        planned, told = await questions.explain(ModelKey(namespace, name))
        return telling_thoughts.explain_answer(_origin(planned, questions.outlook), told)

    @app.get(
        "/v1/what-if",
        summary="What would move, start, stop or find no place, if nodes went or came",
        responses=NO_NODE,
    )
    async def what_if(drain: Drained = (), add: Added = ()) -> answers.WhatIfAnswer:
        """The plan that would be made then, against the one that is made now. Nothing is done."""
        return await consequences(Supposition(drained=drain, added=tuple(_node_and_number(each) for each in add)))

    @app.post(
        "/v1/what-if",
        summary="The same, if LocalModels were applied as well",
        responses={**NO_NODE, **INVALID},
    )
    async def what_if_applied(supposed: asked.Supposed) -> answers.WhatIfAnswer:
        """Agents are asked what is behind sources that nobody has looked at. Nothing is done."""
        supposition = Supposition(
            drained=supposed.drain,
            added=tuple(_node_and_number(each) for each in supposed.add),
            applied=tuple(questions.wish(ModelKey(each.namespace, each.name), each.spec) for each in supposed.apply),
        )
        return await consequences(supposition)

    @app.post(
        "/v1/fit",
        summary="Where a model could run that nobody has applied",
        responses={**INVALID, **UNRESOLVED},
    )
    async def fit(asks: asked.FitOfManifest | asked.FitOfSource | asked.FitOfHeader) -> answers.FitAnswer:
        """Of a LocalModel, of the file behind a source, or of a file by its header. Nothing is done."""
        planned, told = await questions.fit(_fit(asks, questions))
        if not told.options and (refused := [rung.verdict for rung in told.rungs if rung.verdict is not None]):
            words = "; ".join(dict.fromkeys(verdict.message for verdict in refused))
            raise ApiProblem(refused[0].reason, sentence(words))
        return telling_thoughts.fit_answer(_origin(planned, questions.outlook), told)


def _origin(planned: Planned, outlook: Outlook) -> telling.Origin:
    return telling.origin(planned, now=outlook.now(), leading=outlook.leading)


def _fit(asks: asked.FitOfManifest | asked.FitOfSource | asked.FitOfHeader, questions: Questions) -> Fit:
    """What is asked, as a LocalModel; ``InvalidSpec``."""
    if isinstance(asks, asked.FitOfManifest):
        return Fit(wish=questions.wish(ModelKey(asks.namespace, asks.name), asks.spec))
    source = asks.source if isinstance(asks, asked.FitOfSource) else _OWN_FILE
    spec = {"variants": [{"name": "file", "source": source}], "requirements": asks.requirements}
    wish = questions.wish(asked.NOBODY, spec)
    if isinstance(asks, asked.FitOfSource):
        return Fit(wish=wish)
    facts = asks.header.facts()
    digest = f"sha256:{hashlib.sha256(asks.header.model_dump_json().encode()).hexdigest()}"
    return Fit(wish=wish, known=((source, Artifact(digest=digest, bytes=facts.file_bytes, facts=facts)),))


def _stream_logs(app: FastAPI, outlook: Outlook, logs: ModelLogs) -> None:
    streams = Streams()

    @app.get(
        "/v1/models/{namespace}/{name}/logs",
        summary="What a model's engines say, wherever they run",
        response_class=Response,
        responses={**TEXT, **NOT_FOUND, **TOO_MANY},
    )
    async def model_logs(
        namespace: Namespace,
        name: Name,
        *,
        follow: Annotated[bool, Query(description="Go on with new lines, for as long as the client stays.")] = False,
        lines: Annotated[int, Query(ge=0, le=LINES_LIMIT, description="Last lines of each log to begin with.")] = 100,
        previous: Annotated[bool, Query(description="Also of slots that are gone.")] = False,
    ) -> Response:
        """Each line has its node and replica before it: `<node> <slot>.<index> <line>`.

        A line that begins with `# ` is about the reading itself: an agent that does not answer, for example.
        """
        key = ModelKey(namespace, name)
        streams.require_room()
        known = {model.key for model in outlook.snapshot().models}
        if key not in known and not await logs.any_of(key):
            raise _no_such_model(key)
        wanted = Wanted(model=key, lines=lines, follow=follow, previous=previous)
        return LineStream(logs.lines(wanted), streams=streams)


def _schema(app: FastAPI) -> dict[str, Any]:
    """What FastAPI derives, without the 422 that it adds everywhere: here such errors are 400, as a ``Problem``."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


def _node_and_number(text: str) -> tuple[str, int]:
    name, _, number = text.partition(":")
    return name, int(number or 1)


def _no_such_model(key: ModelKey) -> ApiProblem:
    return ApiProblem(ApiCode.MODEL_NOT_FOUND, f"There is no LocalModel {key}.", about=str(key))
