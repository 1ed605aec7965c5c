"""JSON arrives and leaves without losing anything."""
import base64
import json

import pytest

VALUES = [
    "9007199254740993", "-9007199254740993", "9223372036854775807", "-9223372036854775808",
    "1", "1.0", "0", "0.1", "1e300", "1.7976931348623157e308", "5e-324", "100.0",
    "[]", "{}", "[[]]", '{"a":[]}', '{"a":{}}', "null", "[null]", '{"a":null}', "[null,null]",
    "true", "false", '""', '"\\u0000"', '"\\ud83d\\ude00"', '"\u00e9\U0001f600"',
    '"\\"\\\\/\\b\\n"',
    "[1,1.0,2,2.5]", '{"1":"a","2":"b"}', '[[],{},[{}],{"a":[{}]}]', '{"":1}',
    '{"id":1152921504606846977,"nested":{"id":-1152921504606846977}}',
]


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("json.echo", """
        ctx.redis.rpush(MARKS .. ':' .. event.id, ctx.json.encode(event.payload), event.raw)
        mark(event, ctx)""", concurrency=10)
    shared.handler("json.kinds", """
        local p = event.payload
        mark(event, ctx, {
          null = p.null == ctx.null, absent = p.absent == nil, one = math.type(p.one),
          one_point = math.type(p.one_point), big = math.type(p.big), length = #p.list,
          decoded = ctx.json.decode('[9007199254740993, 1.0, null, []]')[1],
          back = ctx.json.encode(ctx.json.decode('[1,1.0,null,[],{}]')),
          bad = select(1, pcall(ctx.json.decode, '{')),
          unencodable = select(1, pcall(ctx.json.encode, function() end)) })""")
    yield shared.worker()
    shared.redis.delete(*shared.redis.keys(shared.marks_key + ":*") or ["none"])


def exactly(text):
    """Python keeps big integers, and 1 and 1.0 apart when written again."""
    return json.dumps(json.loads(text), sort_keys=True)


def echo(shared, body, event):
    shared.broker.publish(shared.exchange, "json.echo", body, message_id=event)
    shared.wait_marks(1, id=event)
    return shared.redis.lrange(f"{shared.marks_key}:{event}", 0, -1)


@pytest.mark.parametrize("value", VALUES)
def test_a_payload_comes_out_as_it_went_in(shared, worker, value):
    body = '{"event":"json.echo","payload":' + value + "}"
    event = base64.b32encode(value.encode()).decode()[:200]
    encoded, raw = echo(shared, body, event)
    assert exactly(encoded) == exactly(value)
    assert raw == body


def test_an_integer_beyond_64_bits_is_not_rounded_in_raw(shared, worker):
    value = "123456789012345678901234567890"
    encoded, raw = echo(shared, '{"event":"json.echo","payload":' + value + "}", "beyond")
    assert float(encoded) == pytest.approx(float(value))
    assert value in raw


def test_what_lua_sees(shared, worker):
    event = shared.publish("json.kinds", {"null": None, "one": 1, "one_point": 1.0,
                                          "big": 2**53 + 1, "list": [1, None, 3]})
    note = shared.wait_marks(1, id=event)[0]["note"]
    assert note == {"null": True, "absent": True, "one": "integer", "one_point": "float",
                    "big": "integer", "length": 3, "decoded": 2**53 + 1,
                    "back": "[1,1.0,null,[],{}]", "bad": False, "unencodable": False}
