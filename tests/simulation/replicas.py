"""How many replicas hold memory, counted again and again while a life is played: never more than its step allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn

from tests.simulation.fleet import SimulatedFleet
from tests.simulation.scenario import Step

_SAMPLE_SECONDS: Final = 0.02


@dataclass(slots=True)
class ReplicaCount:
    """Of the step that is under way."""

    step: Step
    samples: int = 0
    excess: set[str] = field(default_factory=set)
    """What samples found that was more than allowed."""

    @asynccontextmanager
    async def sampled(self, fleet: SimulatedFleet) -> AsyncIterator[None]:
        """For as long as the block lasts."""
        sampling = asyncio.create_task(self._sample(fleet), name="sample")
        try:
            yield
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)

    async def _sample(self, fleet: SimulatedFleet) -> NoReturn:
        while True:
            held = sum(started for _, _, _, started in fleet.slots())
            self.samples += 1
            if held > self.step.desired + self.step.surge:
                self.excess.add(f"{self.step.name}: {held} of {self.step.desired} + {self.step.surge}")
            await asyncio.sleep(_SAMPLE_SECONDS)
