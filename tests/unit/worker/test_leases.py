"""The lease protocol, between real processes: who holds what, and for how long."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from time import monotonic

import pytest

from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.agent.leases import LeaseBook
from roadstead_worker.contract import DeviceState, LeaseMemory, LeaseRequest
from roadstead_worker.lease_file import claim, lease_path
from roadstead_worker.resident_memory import resident_bytes_below
from tests.fixtures.lease_holder import holder

GIB = 1024**3
ARTIFACT = "sha256:" + "a" * 64


def book(
    store: Path, *, budget: int = 10 * GIB, available: int = 100 * GIB, devices: tuple[DeviceState, ...] = ()
) -> LeaseBook:
    return LeaseBook(store, budget_bytes=lambda: budget, available_bytes=lambda: available, devices=lambda: devices)


def request(
    slot: str, index: int = 0, *, size: int = 4 * GIB, devices: tuple[str, ...] = (), device_bytes: int = 0
) -> LeaseRequest:
    return LeaseRequest(
        slot=slot,
        index=index,
        content="c0ffee",
        artifact=ARTIFACT,
        bytes=size,
        devices=devices,
        device_bytes=device_bytes,
    )


def card(name: str, *, free: int = 24 * GIB) -> DeviceState:
    return DeviceState(id=name, vendor="NVIDIA", product="NVIDIA-L4", memory_bytes=24 * GIB, free_bytes=free)


def memory(slot: str, size: int) -> LeaseMemory:
    return LeaseMemory(slot=slot, index=0, bytes=size)


def wait_until_free(leases: LeaseBook, free: int) -> None:
    """Locks of a killed process go when the kernel has torn it down."""
    deadline = monotonic() + 10
    while leases.free_bytes() != free:
        leases.refresh()
        assert monotonic() < deadline


def test_a_group_is_claimed_by_one_process_at_a_time(tmp_path: Path) -> None:
    with holder(tmp_path, "s", groups=2) as first, holder(tmp_path, "s", groups=2) as second:
        assert {first.index, second.index} == {0, 1}
        with holder(tmp_path, "s", groups=2) as third:
            assert third.index is None
        mine = claim(tmp_path, "s", 3)
        assert mine is not None
        assert mine.index == 2
        mine.release()
        mine.release()


def test_a_grant_lives_exactly_as_long_as_the_lock_is_held(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s") as replica:
        leases.grant(request("s"))
        leases.refresh()
        assert [(state.slot, state.index, state.bytes_granted) for state in leases.states()] == [("s", 0, 4 * GIB)]
        assert leases.free_bytes() == 6 * GIB
        replica.kill()
        wait_until_free(leases, 10 * GIB)
    assert leases.states() == ()
    assert not lease_path(tmp_path, "s", 0).exists(), "a freed file is removed"


def test_an_engine_that_outlives_its_replica_keeps_the_lease_and_what_was_measured_last(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s", child=True) as replica:
        leases.grant(request("s"))
        leases.measured(memory("s", 5 * GIB))
        replica.kill()
        leases.refresh()
        assert leases.free_bytes() == 5 * GIB
        assert claim(tmp_path, "s", 1) is None
        replica.kill_child()
        wait_until_free(leases, 10 * GIB)


def test_only_the_engine_is_measured_not_the_replica(tmp_path: Path) -> None:
    with holder(tmp_path, "s", child=True) as replica:
        assert 32 * 1024**2 <= resident_bytes_below(replica.process.pid) < 64 * 1024**2
        replica.kill_child()
        assert resident_bytes_below(replica.process.pid) == 0


def test_the_larger_of_granted_and_measured_counts(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s"):
        leases.grant(request("s"))
        for measured, free in ((3 * GIB, 6 * GIB), (7 * GIB, 3 * GIB), (0, 6 * GIB)):
            leases.measured(memory("s", measured))
            assert leases.free_bytes() == free
            assert [state.bytes_measured for state in leases.states()] == [measured]


def test_memory_is_measured_of_nobody_who_was_granted_none(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s"):
        for slot in ("s", "t"):
            with pytest.raises(DoorProblem) as caught:
                leases.measured(memory(slot, GIB))
            assert caught.value.problem.code == "LeaseNotHeld"
    with pytest.raises(DoorProblem):
        leases.measured(memory("../s", GIB))


def test_a_restarted_agent_reads_its_book_from_the_locked_files(tmp_path: Path) -> None:
    with holder(tmp_path, "s", groups=2) as first, holder(tmp_path, "s", groups=2) as second:
        before = book(tmp_path)
        before.grant(request("s", first.index or 0, size=1 * GIB))
        before.grant(request("s", second.index or 0, size=2 * GIB))
        before.measured(memory("s", 3 * GIB))
        before.measured(memory("s", 4 * GIB))
        after = book(tmp_path)
        after.refresh()
        assert after.states() == before.states()
        assert after.free_bytes() == 10 * GIB - sum(
            max(each.bytes_granted, each.bytes_measured) for each in after.states()
        )
        assert 4 * GIB in {each.bytes_measured for each in after.states()}
        assert after.uses(ARTIFACT) == "s"
        assert after.uses("sha256:" + "b" * 64) is None


def test_a_claim_without_a_grant_holds_no_memory(tmp_path: Path) -> None:
    with holder(tmp_path, "s"):
        leases = book(tmp_path)
        leases.refresh()
        assert leases.states() == ()
        assert leases.free_bytes() == 10 * GIB


def test_a_refusal_says_what_is_needed_free_budgeted_and_who_holds(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "first"), holder(tmp_path, "second"):
        leases.grant(request("first"))
        with pytest.raises(DoorProblem) as caught:
            leases.grant(request("second", size=7 * GIB))
        problem = caught.value.problem
        assert (caught.value.status, problem.code, problem.field) == (409, "InsufficientRAM", "second")
        for number in (7 * GIB, 6 * GIB, 10 * GIB):
            assert str(number) in problem.message
        assert f"first.0 {4 * GIB}" in problem.message
        leases.grant(request("second", size=6 * GIB))


def test_what_foreign_processes_take_is_not_granted(tmp_path: Path) -> None:
    leases = book(tmp_path, available=3 * GIB)
    with holder(tmp_path, "s"), pytest.raises(DoorProblem, match="needs"):
        leases.grant(request("s"))


def test_asking_again_replaces_the_grant(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s"):
        leases.grant(request("s", size=8 * GIB))
        leases.grant(request("s", size=9 * GIB))
        assert leases.free_bytes() == 1 * GIB


def test_memory_is_granted_to_nobody_who_does_not_hold_the_lock(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with pytest.raises(DoorProblem) as caught:
        leases.grant(request("s"))
    assert caught.value.problem.code == "LeaseNotHeld"
    path = lease_path(tmp_path, "s", 0)
    path.write_bytes(b"")
    with pytest.raises(DoorProblem):
        leases.grant(request("s"))


def test_a_new_holder_does_not_inherit_the_grant_of_an_earlier_one(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s"):
        leases.grant(request("s"))
    mine = claim(tmp_path, "s", 1)
    assert mine is not None
    leases.refresh()
    assert leases.states() == ()
    mine.release()


def test_a_claimer_that_locks_a_removed_file_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lease_path(tmp_path, "s", 0)
    real = fcntl.flock
    removed: list[int] = []

    def remove_before_locking(fd: int, operation: int) -> None:
        if not removed:
            removed.append(path.stat().st_ino)
            path.unlink()  # the agent found the file free between our open and our lock
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_before_locking)
    mine = claim(tmp_path, "s", 1)
    assert mine is not None
    assert removed
    assert os.fstat(mine.fd).st_ino == path.stat().st_ino
    assert os.get_inheritable(mine.fd)
    mine.release()


@pytest.mark.parametrize("slot", ["", ".", "..", "../x", "a/b", "a..b", ".hidden", "a\0b", "a" * 200])
def test_a_slot_name_cannot_leave_the_folder(tmp_path: Path, slot: str) -> None:
    with pytest.raises(ValueError, match="slot name"):
        lease_path(tmp_path, slot, 0)
    with pytest.raises(DoorProblem):
        book(tmp_path).grant(request(slot))


def test_a_damaged_or_foreign_lease_file_is_no_lease(tmp_path: Path) -> None:
    leases = book(tmp_path)
    with holder(tmp_path, "s"), holder(tmp_path, "t"):
        lease_path(tmp_path, "s", 0).write_bytes(b"{")
        leases.grant(request("t", size=1 * GIB))
        stolen = lease_path(tmp_path, "t", 0).read_bytes()
        lease_path(tmp_path, "s", 0).write_bytes(stolen)
        leases.refresh()
        assert [state.slot for state in leases.states()] == ["t"]


def free_of(leases: LeaseBook) -> list[int]:
    """GiB that can be granted on each accelerator."""
    return [device.free_bytes // GIB for device in leases.devices()]


def test_memory_of_an_accelerator_is_granted_once_though_its_engine_has_not_taken_it_yet(tmp_path: Path) -> None:
    leases = book(tmp_path, devices=(card("a"), card("b")))
    with holder(tmp_path, "first") as first, holder(tmp_path, "second"):
        leases.grant(request("first", size=GIB, devices=("a", "b"), device_bytes=20 * GIB))
        assert free_of(leases) == [4, 4]
        assert [(state.devices, state.device_bytes) for state in leases.states()] == [(("a", "b"), 20 * GIB)]
        with pytest.raises(DoorProblem) as caught:
            leases.grant(request("second", size=GIB, devices=("b",), device_bytes=5 * GIB))
        problem = caught.value.problem
        assert (caught.value.status, problem.code, problem.field) == (409, "InsufficientVRAM", "second")
        assert problem.message == (
            f"second needs {5 * GIB} bytes on b and {4 * GIB} are free: the NVIDIA-L4 has {24 * GIB}, "
            f"no process holds {24 * GIB} of them, leases hold first.0 {20 * GIB}."
        )
        leases.grant(request("second", size=GIB, devices=("b",), device_bytes=4 * GIB))
        assert free_of(leases) == [4, 0]
        first.kill()
        wait_until_free(leases, 9 * GIB)
        assert free_of(leases) == [24, 20]


def test_what_other_processes_hold_of_an_accelerator_is_not_granted(tmp_path: Path) -> None:
    leases = book(tmp_path, devices=(card("a", free=3 * GIB),))
    with holder(tmp_path, "s"):
        with pytest.raises(DoorProblem, match=r"leases hold nothing\.") as caught:
            leases.grant(request("s", devices=("a",), device_bytes=4 * GIB))
        assert caught.value.problem.code == "InsufficientVRAM"
        leases.grant(request("s", devices=("a",), device_bytes=3 * GIB))
        assert free_of(leases) == [3], "what the engine has taken is not taken off a second time"


def test_asking_again_for_an_accelerator_replaces_the_grant(tmp_path: Path) -> None:
    leases = book(tmp_path, devices=(card("a"), card("b")))
    with holder(tmp_path, "s"):
        leases.grant(request("s", devices=("a",), device_bytes=20 * GIB))
        leases.grant(request("s", devices=("a",), device_bytes=22 * GIB))
        assert free_of(leases) == [2, 24]
        leases.grant(request("s", devices=("b",), device_bytes=22 * GIB))
        assert free_of(leases) == [24, 2]


def test_an_accelerator_that_the_node_does_not_tell_of_is_granted_to_nobody(tmp_path: Path) -> None:
    with holder(tmp_path, "s"):
        cards: tuple[tuple[tuple[DeviceState, ...], str], ...] = (
            ((card("a"), card("b")), "a, b"),
            ((), "no accelerators"),
        )
        for devices, told in cards:
            with pytest.raises(DoorProblem) as caught:
                book(tmp_path, devices=devices).grant(request("s", devices=("a", "c"), device_bytes=GIB))
            problem = caught.value.problem
            assert (caught.value.status, problem.code, problem.field) == (409, "DeviceUnknown", "s")
            assert problem.message.endswith(f"it tells of {told}.")
        leases = book(tmp_path)
        leases.refresh()
        assert leases.states() == ()


def test_a_restarted_agent_knows_who_was_granted_which_accelerator(tmp_path: Path) -> None:
    cards = tuple(card(f"GPU-8932f937-d72c-4106-c12f-20bd9faed9f{number}") for number in range(8))
    names = tuple(each.id for each in cards)
    with holder(tmp_path, "s"):
        book(tmp_path, devices=cards).grant(request("s", devices=names, device_bytes=20 * GIB))
        after = book(tmp_path, devices=cards)
        after.measured(memory("s", 5 * GIB))
        assert [(each.devices, each.device_bytes) for each in after.states()] == [(names, 20 * GIB)]
        assert free_of(after) == [4] * 8


def test_a_grant_of_an_agent_from_before_accelerators_is_still_one(tmp_path: Path) -> None:
    leases = book(tmp_path, devices=(card("a"),))
    with holder(tmp_path, "s"):
        lease_path(tmp_path, "s", 0).write_text(
            f'{{"slot":"s","index":0,"content":"c","artifact":"{ARTIFACT}","bytes":{GIB},"measured":0}}'
        )
        leases.refresh()
        assert [(each.bytes_granted, each.devices) for each in leases.states()] == [(GIB, ())]
        assert free_of(leases) == [24]
