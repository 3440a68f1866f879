"""The table of routes: names, versions, counters that outlive them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadstead_gateway import saved
from roadstead_gateway.routes import Route, RouteInvalid, RouteTable
from roadstead_gateway.tallies import CounterBook
from tests.fixtures.fake_route_api import route_object, slot


def route(name: str, version: int = 1, **spec: object) -> Route:
    return Route.parse(route_object(name, version, **spec))


def found(table: RouteTable, model: str) -> str | None:
    entry = table.find(model)
    return entry.route.name if entry else None


def test_a_model_is_found_by_its_full_and_its_short_names() -> None:
    table = RouteTable(CounterBook())
    table.put(route("a", names=["x", "y"]))
    assert [found(table, name) for name in ("team/a", "x", "y", "a", "")] == ["a", "a", "a", None, None]
    table.drop("a")
    assert [found(table, name) for name in ("team/a", "x", "y")] == [None, None, None]


def test_a_contested_name_stays_until_it_is_given_up() -> None:
    table = RouteTable(CounterBook())
    table.put(route("a", names=["x"]))
    table.put(route("b", names=["x"]))
    assert found(table, "x") == "a"
    table.put(route("a", 2, names=["x"]))
    assert found(table, "x") == "a"
    table.put(route("a", 3, names=[]))
    assert found(table, "x") == "b"


def test_a_short_name_never_hides_a_full_one() -> None:
    table = RouteTable(CounterBook())
    table.put(route("b", names=["team/a"]))
    table.put(route("a"))
    assert found(table, "team/a") == "a"


def test_counters_outlive_versions_of_a_route_and_end_with_the_last_request() -> None:
    book = CounterBook()
    table = RouteTable(book)
    table.put(route("a", slots=[slot("s1", "h:1")]))
    entry = table.find("a")
    assert entry is not None
    backend = entry.balancer.choose(1.0)
    assert backend is not None
    backend.counters.begin(backend.load)
    table.put(route("a", 2, slots=[slot("s1", "h:2")]))
    table.put(route("a", 3, slots=[slot("s1", "h:1", "h:2")]))
    again = table.find("a")
    assert again is not None
    first = again.balancer.choose(1.0)
    assert first is not None
    assert first.address == "h:2", "h:1 still has a request under way"
    table.drop("a")
    assert [counters.in_flight for counters in book.slots()] == [1]
    backend.counters.end(backend.load, "200")
    assert book.slots() == ()


def test_the_same_version_again_changes_nothing() -> None:
    table = RouteTable(CounterBook())
    table.put(route("a"))
    version = table.version
    table.put(route("a"))
    assert table.version == version


def test_replacing_drops_what_is_not_listed_but_for_what_is_kept() -> None:
    table = RouteTable(CounterBook())
    table.replace([route("a"), route("b"), route("c")])
    table.replace([route("b", 2)], keep=["c"])
    assert {entry.route.name for entry in table.entries()} == {"b", "c"}


@pytest.mark.parametrize("found_object", [{}, {"metadata": {}}, route_object("a", 1) | {"spec": {"model": 1}}])
def test_an_object_that_is_no_route_is_told_by_place_and_not_by_content(found_object: dict[str, Any]) -> None:
    with pytest.raises(RouteInvalid, match="not a ModelRoute"):
        Route.parse(found_object)


def test_fields_of_a_newer_operator_are_ignored() -> None:
    assert route("a", future={"x": 1}, slots=[slot("s", "h:1", novel=True)]).spec.slots[0].name == "s"


def test_saved_routes_come_back_the_same(tmp_path: Path) -> None:
    routes = (route("a", 7, slots=[slot("s1", "h:1", state="Draining")]), route("b"))
    saved.save(tmp_path / "deep" / "state", routes)
    assert saved.load(tmp_path / "deep" / "state") == routes
    assert saved.load(tmp_path / "nowhere") == ()
    assert [path.name for path in (tmp_path / "deep" / "state").iterdir()] == [saved.FILE]


STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.none() | st.sets(st.sampled_from("wxyz"), max_size=3)), max_size=30
)


@given(STEPS)
def test_a_name_always_belongs_to_a_route_that_claims_it(steps: list[tuple[str, set[str] | None]]) -> None:
    table = RouteTable(CounterBook())
    claims: dict[str, set[str]] = {}
    for version, (name, names) in enumerate(steps):
        if names is None:
            table.drop(name)
            claims.pop(name, None)
        else:
            table.put(route(name, version, names=sorted(names)))
            claims[name] = names
        for short in "wxyz":
            claimants = {claimant for claimant, claimed in claims.items() if short in claimed}
            holder = found(table, short)
            assert (holder in claimants) if claimants else (holder is None)
        assert all((found(table, f"team/{known}") == known) == (known in claims) for known in "abcd")
