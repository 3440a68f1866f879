"""Waiting for a condition of the cluster. A look asks the API server or starts a program: two are 0.5 s apart."""

from __future__ import annotations

from functools import partial

from tests.fixtures.patience import wait_until

until = partial(wait_until, pause_seconds=0.5)
