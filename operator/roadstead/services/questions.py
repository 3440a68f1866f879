"""What people ask before and after they apply something: why, what if, and where it would fit.

Nothing is done for an answer. What is behind a source that nobody has looked at is asked of agents, as a leader does;
that may take as long as a file takes to be read, so it is waited for a while only, and then told as it stands. What
they answer is used for this question and forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar

from roadstead.domain.explanation import Explanation, Fit, NoSuchModel
from roadstead.domain.model import FieldProblem, ModelKey
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import Answers, FleetSnapshot, Resolution, ResolutionKey, Resolving, Unresolved
from roadstead.domain.sources import without_secrets
from roadstead.domain.supposition import Consequences, NoSuchNode, Supposition, Wish
from roadstead.ports import Agents, DoorError, ReadSpec
from roadstead.services.outlook import Outlook, Planned, unavailable

PATIENCE_SECONDS: Final = 15.0
"""For agents' answers to one question. The API server's proxy and the commands wait longer."""
_ROUNDS: Final = 3
_QUESTIONS: Final = 64
_SIDE_BY_SIDE: Final = 16
_AGAIN_SECONDS: Final = 0.5


class Reasoner(Protocol):
    """Answers by a picture of the fleet and what agents said since; ``TimeoutError``, ``BrokenExecutor``."""

    async def what_if(
        self, snapshot: FleetSnapshot, now: datetime, supposition: Supposition, answers: Answers
    ) -> Consequences:
        """``NoSuchNode``."""

    async def explain(self, snapshot: FleetSnapshot, now: datetime, key: ModelKey, answers: Answers) -> Explanation:
        """``NoSuchModel``."""

    async def fit(self, snapshot: FleetSnapshot, now: datetime, fit: Fit, answers: Answers) -> Explanation: ...


class _WithQuestions(Protocol):
    @property
    def questions(self) -> Sequence[ResolutionKey]:
        """What agents have to be asked before more can be said."""


A = TypeVar("A", bound=_WithQuestions)


class InvalidSpec(Exception):
    """A spec that cannot be acted on; its text is what ``Accepted=False`` would say."""

    def __init__(self, key: ModelKey, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.path}: {problem.message}" for problem in problems))
        self.key = key
        self.path = problems[0].path


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """For as many people as ask; itself without memory."""

    outlook: Outlook
    reasoner: Reasoner
    agents: Agents
    read_spec: ReadSpec
    patience_seconds: float = PATIENCE_SECONDS

    def wish(self, key: ModelKey, spec: object) -> Wish:
        """A LocalModel as the operator would read it; ``InvalidSpec``."""
        found, problems = self.read_spec(spec, name=key.name)
        if found is None:
            raise InvalidSpec(key, problems)
        return Wish(key, found)

    async def what_if(self, supposition: Supposition) -> tuple[Planned, Consequences]:
        """By which picture, and what would become of the models. ``DoorError``: as a plan, or ``NodeNotFound``."""
        planned, now = await self.outlook.latest(), self.outlook.now()
        try:
            return planned, await self._told(
                lambda answers: self.reasoner.what_if(planned.snapshot, now, supposition, answers)
            )
        except NoSuchNode as error:
            raise DoorError("NodeNotFound", f"There is no node {error}.") from error

    async def explain(self, key: ModelKey) -> tuple[Planned, Explanation]:
        """By which picture, and why the model runs where it runs. ``DoorError``: as a plan, or ``ModelNotFound``."""
        planned, now = await self.outlook.latest(), self.outlook.now()
        try:
            return planned, await self._told(lambda answers: self.reasoner.explain(planned.snapshot, now, key, answers))
        except NoSuchModel as error:
            raise DoorError("ModelNotFound", f"There is no LocalModel {error}.") from error

    async def fit(self, fit: Fit) -> tuple[Planned, Explanation]:
        """By which picture, and where a model could run that nobody has applied. ``DoorError``: as a plan."""
        planned, now = await self.outlook.latest(), self.outlook.now()
        return planned, await self._told(lambda answers: self.reasoner.fit(planned.snapshot, now, fit, answers))

    async def _told(self, ask: Callable[[Answers], Awaitable[A]]) -> A:
        """The answer, once agents have said what they can in time."""
        until = asyncio.get_running_loop().time() + self.patience_seconds
        answers: dict[ResolutionKey, Resolution] = {}
        try:
            told = await ask(answers)
            for _ in range(_ROUNDS):
                asked = [key for key in told.questions if key not in answers][:_QUESTIONS]
                if not asked:
                    break
                answers |= await self._answers(asked, until)
                told = await ask(answers)
        except (TimeoutError, BrokenExecutor) as error:
            raise unavailable(error) from error
        return told

    async def _answers(self, keys: list[ResolutionKey], until: float) -> Answers:
        limit = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(key: ResolutionKey) -> Resolution:
            async with limit:
                return await self._answer(key, until)

        return dict(zip(keys, await asyncio.gather(*map(one, keys)), strict=True))

    async def _answer(self, key: ResolutionKey, until: float) -> Resolution:
        """What the agent says in the end, or when there is no more time."""
        said: Resolution | None = None
        try:
            async with asyncio.timeout_at(until):
                while said is None or isinstance(said, Resolving):
                    if said is not None:
                        await asyncio.sleep(_AGAIN_SECONDS)
                    said = await self.agents.resolve(key)
        except TimeoutError:
            pass
        if said is not None:
            return said
        words = f"{key.node} did not say in {self.patience_seconds:g} s what is behind {without_secrets(key.source)}"
        return Unresolved(code=Reason.AGENT_UNAVAILABLE, message=words, at=self.outlook.now())
