#!/usr/bin/python3
"""Publishes one event with pika, as a service of yours would.

    examples/publish.py ticket.created '{"id": "t-1", "ownerId": "u-1"}'

RABBITMQ_URL names the broker. The message id makes a duplicate recognisable: it belongs to the
event, not to the thing that the event is about, so each new event gets a new one unless --id says
otherwise.
"""
import argparse
import json
import os
import sys
import uuid

import pika


def arguments():
    parser = argparse.ArgumentParser(description="Publishes one event to RabbitMQ.")
    parser.add_argument("event", help="its type, which is the routing key, too: ticket.created")
    parser.add_argument("payload", nargs="?", default="{}", help="JSON (default: {})")
    parser.add_argument("--id", default=None, help="message id (default: a new UUID)")
    parser.add_argument("--exchange", default="opsdesk.events")
    return parser.parse_intermixed_args()


def main():
    args = arguments()
    try:
        body = json.dumps({"event": args.event, "payload": json.loads(args.payload)})
    except ValueError as error:
        sys.exit(f"publish.py: the payload is not JSON: {error}")
    message_id = args.id or str(uuid.uuid4())
    url = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@localhost:5672/")
    try:
        connection = pika.BlockingConnection(pika.URLParameters(url))
    except pika.exceptions.AMQPConnectionError as error:
        sys.exit(f"publish.py: no connection to RabbitMQ (RABBITMQ_URL): {error!r}")
    channel = connection.channel()
    channel.confirm_delivery()  # from here on basic_publish returns when the broker has the event
    try:
        channel.basic_publish(
            exchange=args.exchange,
            routing_key=args.event,
            body=body.encode(),
            properties=pika.BasicProperties(
                message_id=message_id,
                delivery_mode=2,  # outlives a restart of the broker
                content_type="application/json",
            ),
            mandatory=True,  # an event that no queue takes is an error, not a silent loss
        )
    except pika.exceptions.UnroutableError:
        sys.exit(f"publish.py: no queue takes {args.event}: has its handler been deployed?")
    except pika.exceptions.ChannelClosedByBroker as error:
        sys.exit(f"publish.py: {error.reply_text}")
    connection.close()
    print(f"published {args.event} with id {message_id}")


if __name__ == "__main__":
    main()
