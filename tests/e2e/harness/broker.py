"""RabbitMQ as pika sees it, with header tables kept as the bytes on the wire."""
import contextlib
import functools
import logging
import struct
import threading

import pika
import pika.data
import pika.exceptions

logging.getLogger("pika").setLevel(logging.CRITICAL)  # a lost connection is part of the tests
DEAD = (pika.exceptions.AMQPError, OSError)
CUT = (pika.exceptions.AMQPConnectionError, pika.exceptions.ConnectionWrongStateError,
       pika.exceptions.ChannelWrongStateError)
FIXED = {"t": 1, "b": 1, "B": 1, "U": 2, "u": 2, "s": 2, "I": 4, "i": 4, "L": 8, "l": 8, "f": 4,
         "d": 8, "D": 5, "T": 8, "V": 0}
raw_mode = threading.local()
plain_encode_value = pika.data.encode_value
plain_decode_table = pika.data.decode_table
plain_decode_value = pika.data.decode_value


class Wire(bytes):
    """A header's value as it is on the wire: the letter of its kind, and what follows."""

    def value(self):
        return plain_decode_value(self, 0)[0]


def wire(kind, layout="", *values):
    return Wire(kind.encode() + (struct.pack(">" + layout, *values) if layout else b""))


def wire_string(kind, data):
    return Wire(kind.encode() + struct.pack(">I", len(data)) + data)


def nested(levels, kind):
    """A value nested so many levels deep, made without recursion."""
    value = b"V"
    for _ in range(levels):
        body = (b"\x01a" + value) if kind == "F" else value
        value = kind.encode() + struct.pack(">I", len(body)) + body
    return Wire(value)


def _encode_value(pieces, value):
    if isinstance(value, Wire):
        pieces.append(bytes(value))
        return len(value)
    return plain_encode_value(pieces, value)


def _decode_table(encoded, offset):
    if not getattr(raw_mode, "on", False):
        return plain_decode_table(encoded, offset)
    result = {}
    end = offset + 4 + struct.unpack_from(">I", encoded, offset)[0]
    offset += 4
    while offset < end:
        name, offset = pika.data.decode_short_string(encoded, offset)
        kind = chr(encoded[offset])
        length = 1 + (FIXED[kind] if kind in FIXED
                      else 4 + struct.unpack_from(">I", encoded, offset + 1)[0])
        result[name] = Wire(encoded[offset:offset + length])
        offset += length
    return result, offset


pika.data.encode_value = _encode_value
pika.data.decode_table = _decode_table


class Message:
    """What basic.get returned. `wire` holds the headers as they were on the wire."""

    def __init__(self, method, properties, body):
        self.body = body
        self.properties = properties
        self.tag = method.delivery_tag
        self.redelivered = method.redelivered
        self.exchange = method.exchange
        self.routing_key = method.routing_key
        self.wire = properties.headers or {}

    def header(self, name):
        """Its value, or None: names are compared without regard to case."""
        for key, value in self.wire.items():
            if key.lower() == name.lower():
                return value.value()
        return None


def again_when_cut(method):
    """A restart of the broker is noticed by the first call after it: that one is made again."""
    @functools.wraps(method)
    def call(self, *arguments, **options):
        try:
            return method(self, *arguments, **options)
        except CUT:
            self.close()
            return method(self, *arguments, **options)
    return call


class Broker:
    """One connection that is made again when the broker went away. Not to be shared by threads."""

    def __init__(self, url):
        self.url = url
        self.connection = None
        self.channels = {}

    def channel(self, purpose):
        if self.connection is None or self.connection.is_closed:
            parameters = pika.URLParameters(self.url)
            parameters.heartbeat = 0
            parameters.socket_timeout = 5
            parameters.blocked_connection_timeout = 60
            self.connection = pika.BlockingConnection(parameters)
            self.channels = {}
        channel = self.channels.get(purpose)
        if channel is None or channel.is_closed:
            channel = self.channels[purpose] = self.connection.channel()
            if purpose == "confirm":
                channel.confirm_delivery()
        return channel

    def close(self):
        if self.connection is not None and self.connection.is_open:
            with contextlib.suppress(*DEAD):
                self.connection.close()
        self.connection = None

    @again_when_cut
    def publish(self, exchange, routing_key, body, *, confirm=True, **properties):
        """Persistent and mandatory; returns when the broker has confirmed it."""
        properties.setdefault("delivery_mode", 2)
        data = body.encode() if isinstance(body, str) else body
        self.channel("confirm" if confirm else "plain").basic_publish(
            exchange, routing_key, data, pika.BasicProperties(**properties), mandatory=confirm)

    @again_when_cut
    def get(self, queue, ack=True):
        """The next message of the queue, or None."""
        channel = self.channel("ask")
        raw_mode.on = True
        try:
            method, properties, body = channel.basic_get(queue, auto_ack=ack)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return None
            raise
        finally:
            raw_mode.on = False
        if method is None:
            return None
        return Message(method, properties, body)

    def drain(self, queue):
        """Takes all that is in the queue now."""
        messages = []
        while (message := self.get(queue)) is not None:
            messages.append(message)
        return messages

    def peek(self, queue, message_id):
        """The message of that id, or None; all of them stay in the queue."""
        found, tags, channel = None, [], None
        while (message := self.get(queue, ack=False)) is not None:
            channel = self.channel("ask")
            tags.append(message.tag)
            if message.properties.message_id == message_id:
                found = message
        for tag in tags:
            channel.basic_nack(tag, requeue=True)
        return found

    @again_when_cut
    def _ask(self, queue):
        try:
            return self.channel("ask").queue_declare(queue, passive=True).method
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return None
            raise

    def depth(self, queue):
        """Messages that are ready in it; None when there is no such queue."""
        answer = self._ask(queue)
        return None if answer is None else answer.message_count

    def consumers(self, queue):
        answer = self._ask(queue)
        return 0 if answer is None else answer.consumer_count

    @again_when_cut
    def declare(self, queue, bind=None, **arguments):
        channel = self.channel("ask")
        channel.queue_declare(queue, durable=True, arguments=arguments or None)
        if bind:
            channel.queue_bind(queue, *bind)

    def declare_exchange(self, name):
        self.channel("ask").exchange_declare(name, "topic", durable=True)

    @again_when_cut
    def delete(self, *queues):
        for queue in queues:
            self.channel("ask").queue_delete(queue)

    @again_when_cut
    def delete_exchange(self, name):
        self.channel("ask").exchange_delete(name)
