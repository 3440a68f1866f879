"""The configuration of a cell: which shape an application may have, and the digest that compare-and-swap goes by.

Ray drops unknown keys silently and runs whatever ``import_path`` names, so the head agent lets only our own slots
through, with the keys listed here. The digest is taken over the typed form of each application, in which Ray's echo
and what was put are the same: Ray leaves out nothing that was set and may add defaults, numbers may come back as
``30`` or ``30.0``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roadstead_worker.contract import SLOT_DEPLOYMENT, SLOT_IMPORT_PATH

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
_RoutePrefix = Annotated[str, Field(pattern=r"^/s/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
_OurImportPath = Annotated[str, Field(pattern=f"^{re.escape(SLOT_IMPORT_PATH)}$")]
_OurDeployment = Annotated[str, Field(pattern=f"^{re.escape(SLOT_DEPLOYMENT)}$")]


class ConfigInvalid(Exception):
    """An application is not one of ours; ``field`` says where."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ActorOptions(_Strict):
    num_cpus: float | None = None
    num_gpus: float | None = None
    label_selector: dict[str, str]


class Deployment(_Strict):
    """The tested options; ``docs/explanation/replica.md`` says what each of them does to a running replica."""

    name: _OurDeployment
    num_replicas: Annotated[int, Field(ge=1)]
    max_ongoing_requests: Annotated[int, Field(ge=1)] | None = None
    max_queued_requests: Annotated[int, Field(ge=-1)] | None = None
    graceful_shutdown_timeout_s: float | None = None
    graceful_shutdown_wait_loop_s: float | None = None
    health_check_period_s: float | None = None
    health_check_timeout_s: float | None = None
    max_surge_percent: float | None = None
    rolling_update_percentage: float | None = None
    ray_actor_options: ActorOptions
    user_config: dict[str, Any]
    """Always there: Ray keeps the old one in running replicas when it is left out."""


class Application(_Strict):
    name: _Name
    route_prefix: _RoutePrefix
    import_path: _OurImportPath
    args: dict[str, Any]
    deployments: Annotated[list[Deployment], Field(min_length=1, max_length=1)]


_EMPTY: Final[tuple[dict[str, Any], ...]] = ()


def checked_applications(applications: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As Ray is to get them, only what was set. Raises ``ConfigInvalid`` for the first thing that is wrong."""
    checked: list[Application] = []
    for number, application in enumerate(applications):
        try:
            checked.append(Application.model_validate(application))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = ".".join(("applications", str(number), *(str(part) for part in first["loc"])))
            raise ConfigInvalid(f"{application.get('name', 'An application')!s}: {first['msg']}", field=field) from None
    names = [application.name for application in checked]
    for name in names:
        if names.count(name) > 1:
            raise ConfigInvalid(f"{name} is listed more than once", field="applications")
    return [application.model_dump(mode="json", exclude_unset=True) for application in checked]


def base_digest(applications: Iterable[Mapping[str, Any]]) -> str:
    """Digest of a set of applications, the same for what was put and for what Ray echoes; order does not matter."""
    canonical = sorted(
        (_canonical(application) for application in applications), key=lambda each: str(each.get("name"))
    )
    content = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def _canonical(application: Mapping[str, Any]) -> dict[str, Any]:
    try:
        known = Application.model_validate(_without_unknown(application))
    except (ValidationError, AttributeError, TypeError):
        return dict(application)  # not one of ours: whatever it is, it is not what anybody of us put
    return known.model_dump(mode="json", exclude_none=True)


def _without_unknown(application: Mapping[str, Any]) -> dict[str, Any]:
    deployments = [
        _kept(deployment, Deployment)
        | {"ray_actor_options": _kept(deployment.get("ray_actor_options") or {}, ActorOptions)}
        for deployment in application.get("deployments") or _EMPTY
    ]
    return _kept(application, Application) | {"deployments": deployments}


def _kept(values: Mapping[str, Any], shape: type[BaseModel]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in shape.model_fields}
