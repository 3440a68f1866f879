"""Whole streams and broken ones, however they are cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadstead_gateway.stream import MAX_EVENT_BYTES, EventScan, StreamBroken, tokens_in
from tests.fixtures.fake_replica import DONE, completion, event, whole_stream


def passed_on(scan: EventScan, data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    found = b""
    for start, end in itertools.pairwise(edges):
        found += scan.feed(data[start:end])
        if scan.over:
            break
    return found


CUTS = st.lists(st.integers(1, 2000), max_size=30)
WORDS = st.lists(
    st.text(max_size=12) | st.sampled_from(['"error"', "data: [DONE]", '{"error":{"code":500}}']), max_size=6
)


@given(words=WORDS, cuts=CUTS)
def test_a_whole_stream_passes_byte_for_byte_wherever_it_is_cut(words: list[str], cuts: list[int]) -> None:
    scan, data = EventScan(), b": ping\n\n" + b"".join(whole_stream(words))
    assert passed_on(scan, data, cuts) == data
    assert scan.whole
    assert scan.tokens == len(words) + 1


@given(words=WORDS, cuts=CUTS, length=st.integers(0, 2000))
def test_a_stream_that_stops_early_passes_whole_events_only_and_is_not_whole(
    words: list[str], cuts: list[int], length: int
) -> None:
    data = b"".join(whole_stream(words))
    scan, part = EventScan(), data[: min(length, len(data) - len(DONE))]
    found = passed_on(scan, part, cuts)
    assert part.startswith(found)
    assert found == part[: part.rfind(b"\n\n") + 2] if b"\n\n" in part else not found
    assert not scan.whole


@given(words=WORDS, cuts=CUTS)
def test_done_without_a_finish_reason_is_held_back(words: list[str], cuts: list[int]) -> None:
    scan = EventScan()
    events = b"".join(event(word) for word in words)
    assert passed_on(scan, events + DONE, cuts) == events
    assert (scan.done, scan.whole) == (True, False)


@given(cuts=CUTS)
def test_an_engines_error_event_is_held_back(cuts: list[int]) -> None:
    scan = EventScan()
    assert passed_on(scan, event("Hi") + b'data: {"error": {"code": 400, "message": "m"}}\n\n' + DONE, cuts) == event(
        "Hi"
    )
    assert scan.error == {"code": 400, "message": "m"}


@given(cuts=CUTS)
def test_lines_may_end_as_on_windows(cuts: list[int]) -> None:
    scan = EventScan()
    data = b"".join(whole_stream()).replace(b"\n", b"\r\n")
    found = passed_on(scan, data, cuts)
    assert scan.whole
    assert found == data.replace(b"data: [DONE]\r\n\r\n", DONE)


def test_a_giant_event_breaks_the_stream() -> None:
    scan = EventScan()
    for _ in range(MAX_EVENT_BYTES // 65536):
        assert scan.feed(b"x" * 65536) == b""
    with pytest.raises(StreamBroken):
        scan.feed(b"x")


def test_tokens_are_read_from_the_end_of_an_answer_and_never_from_the_models_words() -> None:
    assert tokens_in(completion()) == 7
    assert tokens_in(completion('"completion_tokens": 999')) == 7
    assert tokens_in(b'{"choices":[],"timings":{"prompt_n":3,"predicted_n":12}}') == 12
    assert tokens_in(b'{"x":"\\"completion_tokens\\": 9"}') == 0
