"""The choice of an address: weights hold, draining slots and weight 0 never, spilling only when full."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from roadstead_gateway.balance import Balancer
from roadstead_gateway.contract import RouteSlot, SlotState
from roadstead_gateway.tallies import CounterBook


def route_slot(name: str, *addresses: str, **more: object) -> RouteSlot:
    filled = {"release": 1, "variant": "q4", "node": name, "route_prefix": f"/{name}", "weight": 100, "capacity": 4}
    return RouteSlot.model_validate({"name": name, "addresses": addresses} | filled | more)


def balancer(*slots: RouteSlot, book: CounterBook | None = None, before: Balancer | None = None) -> Balancer:
    kept = book or CounterBook()
    seats = ((slot, kept.of(slot.name, model="m", variant=slot.variant, node=slot.node)) for slot in slots)
    return Balancer(seats, before=before)


def chosen(subject: Balancer, times: int, now: float = 1.0) -> list[str]:
    """Addresses chosen one after another, each request ended before the next."""
    found: list[str] = []
    for _ in range(times):
        backend = subject.choose(now)
        assert backend is not None
        backend.counters.begin(backend.load)
        backend.counters.end(backend.load, "200")
        found.append(backend.address)
    return found


def test_weights_are_kept_smoothly() -> None:
    subject = balancer(route_slot("a", "a:1", weight=90), route_slot("b", "b:1", weight=10))
    found = chosen(subject, 100)
    assert Counter(found) == {"a:1": 90, "b:1": 10}
    assert all("b:1" in found[start : start + 11] for start in range(89))


def test_within_a_slot_the_address_with_the_fewest_requests_is_chosen() -> None:
    subject = balancer(route_slot("a", "a:1", "a:2", "a:3"))
    busy = [subject.choose(1.0) for _ in range(1)]
    for backend in busy:
        assert backend is not None
        backend.counters.begin(backend.load)
    assert set(chosen(subject, 4)) == {"a:2", "a:3"}


def test_equals_take_turns() -> None:
    assert Counter(chosen(balancer(route_slot("a", "a:1", "a:2")), 10)) == {"a:1": 5, "a:2": 5}


def test_a_full_slot_spills_to_the_least_loaded_address_anywhere() -> None:
    subject = balancer(
        route_slot("a", "a:1", weight=1000, capacity=1),
        route_slot("b", "b:1", weight=1, capacity=4),
        route_slot("c", "c:1", weight=0, capacity=100),
    )
    found = []
    for _ in range(10):
        backend = subject.choose(1.0)
        assert backend is not None
        backend.counters.begin(backend.load)
        found.append(backend.address)
    # One at a within its capacity, four at b, then both are over it and share by load per capacity.
    assert found[:5] == ["a:1", "b:1", "b:1", "b:1", "b:1"]
    assert Counter(found) == {"a:1": 2, "b:1": 8}


def test_a_suspect_address_is_chosen_last_but_still_rather_than_none() -> None:
    subject = balancer(route_slot("a", "a:1", weight=1000), route_slot("b", "b:1", weight=1))
    first = subject.choose(1.0)
    assert first is not None
    first.load.suspect_until = 3.0
    assert set(chosen(subject, 5, now=2.0)) == {"b:1"}
    assert "a:1" in chosen(subject, 5, now=3.0)
    assert subject.choose(2.0, {"b:1"}) is first


def test_a_slot_of_little_weight_gets_its_turn_though_the_route_changes_all_the_time() -> None:
    book = CounterBook()
    slots = (route_slot("a", "a:1", weight=99), route_slot("b", "b:1", weight=1))
    subject = balancer(*slots, book=book)
    found = []
    for _ in range(200):
        subject = balancer(*slots, book=book, before=subject)
        found += chosen(subject, 1)
    assert Counter(found)["b:1"] == 2


def test_what_is_no_address_gets_no_request() -> None:
    subject = balancer(route_slot("a", "evil.example/x:1", "user@a:1", "a:1/..", "a b:1", "a", "[::1]:80", "a:1"))
    assert set(chosen(subject, 4)) == {"[::1]:80", "a:1"}
    assert not balancer(route_slot("a", "a:1", route_prefix="/a?x=")).ready


def test_the_prefix_stays_in_the_path() -> None:
    for prefix, url in (("/ns.m", "http://a:1/ns.m/v1/x"), ("/", "http://a:1/v1/x"), ("", "http://a:1/v1/x")):
        subject = balancer(route_slot("a", "a:1", route_prefix=prefix))
        backend = subject.choose(1.0)
        assert backend is not None
        assert str(backend.url("/v1/x")) == url


SLOTS = st.lists(
    st.tuples(
        st.integers(-2, 200),  # weight
        st.integers(0, 5),  # capacity
        st.sampled_from(SlotState),
        st.integers(0, 3),  # addresses
    ),
    max_size=8,
).map(
    lambda rows: [
        route_slot(
            f"s{number}",
            *(f"n{number}:{port}" for port in range(addresses)),
            weight=weight,
            capacity=capacity,
            state=state,
        )
        for number, (weight, capacity, state, addresses) in enumerate(rows)
    ]
)


@given(slots=SLOTS, ends=st.lists(st.booleans(), max_size=60), suspects=st.sets(st.integers(0, 7)))
def test_only_active_slots_with_weight_are_ever_chosen_and_always_if_there_is_one(
    slots: list[RouteSlot], ends: list[bool], suspects: set[int]
) -> None:
    book = CounterBook()
    subject = balancer(*slots, book=book)
    allowed = {
        address for slot in slots if slot.state is SlotState.ACTIVE and slot.weight > 0 for address in slot.addresses
    }
    for slot in slots:
        if int(slot.name[1:]) in suspects:
            for address in slot.addresses:
                book.of(slot.name, model="m", variant="q4", node="n").load(address).suspect_until = 9.0
    assert subject.ready == bool(allowed)
    for end in ends:
        backend = subject.choose(1.0)
        assert (backend is not None) == bool(allowed)
        if backend is None:
            break
        assert backend.address in allowed
        backend.counters.begin(backend.load)
        if end:
            backend.counters.end(backend.load, "200")
    tried: set[str] = set()
    while (backend := subject.choose(1.0, tried)) is not None:
        assert backend.address not in tried
        tried.add(backend.address)
    assert tried == allowed


@given(weights=st.lists(st.integers(1, 50), min_size=1, max_size=6), rounds=st.integers(1, 4))
def test_shares_are_within_a_few_requests_of_the_weights(weights: list[int], rounds: int) -> None:
    subject = balancer(*(route_slot(f"s{n}", f"s{n}:1", weight=weight) for n, weight in enumerate(weights)))
    found = Counter(chosen(subject, sum(weights) * rounds))
    for number, weight in enumerate(weights):
        assert abs(found[f"s{number}:1"] - weight * rounds) <= len(weights)


@given(slots=SLOTS)
def test_the_same_calls_choose_the_same(slots: list[RouteSlot]) -> None:
    one, two = balancer(*slots), balancer(*slots)
    if one.ready:
        assert chosen(one, 20) == chosen(two, 20)
