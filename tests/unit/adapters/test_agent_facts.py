"""What an agent tells becomes what the planner may know."""

from __future__ import annotations

from roadstead.adapters.agents.facts import agent_facts
from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.snapshot import Lease
from roadstead_worker.contract import DeviceState, LeaseState, Measurement
from tests.contract.doors.states import a_node


def test_accelerators_and_bandwidth_are_known_and_vendors_of_tomorrow_are_passed_over() -> None:
    state = a_node()
    card = DeviceState(
        id="GPU-1", vendor="NVIDIA", product="NVIDIA-L4", memory_bytes=24, free_bytes=20, compute_capability=(8, 9)
    )
    told = state.model_copy(
        update={
            "devices": (card, card.model_copy(update={"id": "X-1", "vendor": "Tomorrow"})),
            "ambiguities": ("device 2 is lost",),
            "hardware": state.hardware.model_copy(update={"memory_bandwidth": 40e9}),
        }
    )
    facts = agent_facts(told)
    assert facts.devices == (
        Device(
            id="GPU-1",
            vendor=Vendor.NVIDIA,
            product="NVIDIA-L4",
            memory_bytes=24,
            free_bytes=20,
            compute_capability=(8, 9),
        ),
    )
    assert (facts.ambiguities, facts.memory_bandwidth) == (("device 2 is lost",), 40e9)
    assert (agent_facts(state).devices, agent_facts(state).memory_bandwidth) == ((), None), "an older agent"


def test_memory_that_is_leased_of_accelerators_is_known() -> None:
    state = a_node()
    lease = LeaseState(slot="s", index=1, content="c", bytes_granted=100, devices=("GPU-1", "GPU-2"), device_bytes=20)
    facts = agent_facts(state.model_copy(update={"leases": (lease, *state.leases[:1])}))
    assert facts.leases == (
        Lease(slot="s", index=1, bytes=100, devices=("GPU-1", "GPU-2"), device_bytes=20),
        Lease(slot="s", index=0, bytes=100),
    )


def test_how_long_a_prompt_of_a_thousand_tokens_waits_follows_from_how_fast_prompts_were_read() -> None:
    measured = Measurement(content="c", slot="s", memory_bytes=1, load_seconds=1, prompt_tokens_per_second=250.0)
    other = Measurement(content="d", slot="s", memory_bytes=1, load_seconds=1, tokens_per_second=9.0)
    facts = agent_facts(a_node().model_copy(update={"measurements": (measured, other)}))
    assert facts.measured_waits == (("c", 4.0),)
    assert facts.measured_speeds == (("d", 9.0),)
