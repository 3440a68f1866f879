"""What may pass: strict JSON within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadstead_gateway.admission import MAX_DEPTH, Wanted, admit
from roadstead_gateway.errors import Refusal


def body(**fields: object) -> bytes:
    return json.dumps({"model": "tiny"} | fields).encode()


def nested(depth: int) -> bytes:
    return b'{"model":"tiny","x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'"tiny"',
        b"{",
        b'{"model":"tiny"} x',
        b'{"model":"tiny","model":"huge"}',
        b'{"model":"tiny","x":{"a":1,"a":2}}',
        b'{"model":"tiny","x":NaN}',
        b'{"model":"tiny","x":-Infinity}',
        b'{"model":"tiny","x":1e400}',
        b'{"model":"tiny","x":' + b"9" * 5000 + b"}",
        b'{"model":"tiny","x":"\xff"}',
        b'\xef\xbb\xbf{"model":"tiny"}',
        '{"model":"tiny"}'.encode("utf-16"),
        b"{'model':'tiny'}",
        b'{"model":"tiny",}',
        nested(MAX_DEPTH + 1),
        nested(100_000),
    ],
    ids=lambda raw: raw[:24].decode("latin-1") + f"({len(raw)})",
)
def test_what_parsers_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        admit(raw)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": "x" * 1000}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream_options": {}}, "stream_options"),
        *(({"n": value}, "n") for value in (0, -1, 9, 10**9, 1.0, "2", True, [1])),
        *(({"max_tokens": value}, "max_tokens") for value in (0, -1, 10**12, 1.5, "7")),
        ({"n_predict": -1}, "n_predict"),
        ({"n_discard": -5}, "n_discard"),
        ({"logprobs": 10**6}, "logprobs"),
        ({"stop": ["x"] * 100_000}, "stop"),
    ],
    ids=lambda case: str(case)[:40],
)
def test_a_field_out_of_bounds_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        admit(body(**fields))
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 8, "max_tokens": 1, "logprobs": True, "top_logprobs": 20, "stop": ["a"], "stream_options": None},
        {"n": None, "max_tokens": None, "max_completion_tokens": 4096, "logprobs": 5},
        {"messages": [{"role": "user", "content": "\ud800\u0000"}], "tools": [{"type": "function"}] * 200},
    ],
    ids=["bare", "all", "nulls", "odd but legal"],
)
def test_the_rest_passes(fields: dict[str, Any]) -> None:
    assert admit(body(**fields)) == Wanted(model="tiny", stream=False)


def test_nesting_up_to_the_bound_passes() -> None:
    assert admit(nested(MAX_DEPTH)).model == "tiny"
    assert admit(body(stream=True, stream_options={"include_usage": True})).stream


def status_of(raw: bytes) -> int:
    try:
        admit(raw)
    except Refusal as refused:
        json.loads(refused.body())
        return refused.status
    return 200


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_is_either_admitted_or_refused_with_400(value: object) -> None:
    raw = json.dumps(value).encode()
    assert status_of(raw) in {200, 400}


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_more_than_be_refused(raw: bytes) -> None:
    assert status_of(raw) in {200, 400}
