#!/usr/bin/python3
"""What a visualization client does: prints the results of each completed job, one line a job. Needs nothing but pika.

    listen.py --beamline p11

The broker is given with --url or in MENTO_BROKER_URL: amqp://user:password@host:5672/vhost, special characters
percent-encoded. A result's path is the one at the beamline if it was copied there, else the one on the core file system.

It runs until it is stopped, and connects again when the connection breaks; what happened in between is not shown.
Exit status: 2 wrong usage, 3 the broker cannot be reached at the start or has no Mento exchanges.
"""

import argparse
import json
import os
import sys
import time

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

RECONNECT_SECONDS = 5


def main():
    options = parse_arguments()
    connected_before = False
    while True:
        try:
            with pika.BlockingConnection(options.url) as connection:
                channel = connection.channel()
                # A queue that is ours alone and goes when we go.
                queue = channel.queue_declare(queue="", exclusive=True, auto_delete=True).method.queue
                channel.queue_bind(queue, f"{options.prefix}.events", routing_key(options))
                print(f"listening for {routing_key(options)} on {options.prefix}.events", file=sys.stderr)
                connected_before = True
                for _, _, body in channel.consume(queue, auto_ack=True, exclusive=True):
                    show(body)
            problem = "the broker took our queue away"
        except ChannelClosedByBroker as error:  # such as: no exchange 'mento.events', no right to use it
            problem = f"the broker said {error.reply_text}: has a Mento worker ever run on it?"
        except (AMQPError, OSError) as error:
            problem = f"no connection to {options.url.host}:{options.url.port}: {error!r}"
        print(f"listen.py: {problem}", file=sys.stderr)
        if not connected_before:
            return 3
        time.sleep(RECONNECT_SECONDS)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Prints the results of each completed job.")
    parser.add_argument("--beamline", default="*", help="such as p11; default: all")
    parser.add_argument("--beamtime-id", default="*", help="default: all")
    parser.add_argument("--url", default=os.environ.get("MENTO_BROKER_URL"), help="default: $MENTO_BROKER_URL")
    parser.add_argument("--prefix", default="mento", help="of the names on the broker; default: %(default)s")
    options = parser.parse_args()
    if not (options.url or "").startswith(("amqp://", "amqps://")):
        parser.error("give the broker as amqp://user:password@host:port/vhost, with --url or MENTO_BROKER_URL")
    try:
        options.url = pika.URLParameters(options.url)
    except (ValueError, TypeError):
        parser.error("the broker's URL is not of the form amqp://user:password@host:port/vhost (percent-encoded)")
    return options


def routing_key(options):
    """<beamline>.<beamtime>.job.completed; a dot inside a beamline's name (p02.1) is written `-`."""
    return f"{options.beamline.replace('.', '-')}.{options.beamtime_id.replace('.', '-')}.job.completed"


def show(body):
    try:
        event = json.loads(body)
        data = event["data"]
        paths = [result.get("beamlinePath") or result["path"] for result in data["results"]]
        line = [event["time"], data["session"]["beamline"], data["session"]["id"], data["job"]["trigger"], *paths]
    except (ValueError, KeyError, TypeError):
        print("listen.py: left out a message that is not a job.completed event", file=sys.stderr)
        return
    print(*line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
