#!/usr/bin/python3
"""What a visualization client does: prints the results of each completed job, one line a job. Needs nothing but pika.

    listen.py --beamline p11 --since 2h

The broker is given with --url or in MENTO_BROKER_URL: amqp://user:password@host:5672/vhost, special characters
percent-encoded. A result's path is the one at the beamline if it was copied there, else the one on the core file system.

It runs until it is stopped. Mento keeps all events in a stream for 14 days: with --since those of the past come first, and
when the connection breaks it connects again and goes on where it was. No event is missed, none is shown twice.
Exit status: 2 wrong usage, 3 the broker cannot be reached at the start or has no Mento stream.
"""

import argparse
import json
import os
import re
import sys
import time
from datetime import datetime, timedelta, timezone

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

RECONNECT_SECONDS = 5
# An event that is announced twice has the same id, and comes again soon.
REMEMBERED = 10_000


def main():
    options = parse_arguments()
    listener = Listener(options)
    while True:
        try:
            listener.listen()
            problem = "the broker took the stream away"
        except ChannelClosedByBroker as error:  # such as: no queue 'mento.history', no right to use it
            problem = f"the broker said {error.reply_text}: has a Mento worker ever run on it?"
        except (AMQPError, OSError) as error:
            problem = f"no connection to {options.url.host}:{options.url.port}: {error!r}"
        print(f"listen.py: {problem}", file=sys.stderr)
        if not listener.has_listened:
            return 3
        time.sleep(RECONNECT_SECONDS)


class Listener:
    def __init__(self, options):
        self.options = options
        self.has_listened = False
        # Where reading begins: a place in the stream, or a time, which is by the broker's clock, whatever events tell.
        self.start = options.since or "next"
        self.shown = {}  # a dict keeps its order

    def listen(self):
        """Shows events until the connection is lost."""
        with pika.BlockingConnection(self.options.url) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=100)  # the broker wants this for a stream
            stream = f"{self.options.prefix}.history"
            channel.basic_consume(stream, self.take, arguments={"x-stream-offset": self.start})
            if self.start == "next":
                self.start = datetime.now(timezone.utc)
            self.has_listened = True
            print(f"listening on {stream}", file=sys.stderr)
            channel.start_consuming()

    def take(self, channel, method, properties, body):
        channel.basic_ack(method.delivery_tag)  # lets the broker send more; it stays in the stream
        self.start = properties.headers["x-stream-offset"]  # after a loss it comes again, and is known
        if method.exchange != f"{self.options.prefix}.events" or not self.is_wanted(method.routing_key):
            return
        try:
            event = json.loads(body)
            key = (event["source"], event["id"])
            line = one_line(event)
        except (ValueError, KeyError, TypeError):
            print("listen.py: left out a message that is not a job.completed event", file=sys.stderr)
            return
        if key in self.shown:
            return
        self.shown[key] = True
        if len(self.shown) > REMEMBERED:
            del self.shown[next(iter(self.shown))]
        print(line, flush=True)

    def is_wanted(self, routing_key):
        """<beamline>.<beamtime>.job.completed; a dot inside a beamline's name (p02.1) is written `-`."""
        beamline, beamtime, *event = routing_key.split(".")
        return (
            event == ["job", "completed"]
            and self.options.beamline in (None, beamline)
            and self.options.beamtime_id in (None, beamtime)
        )


def parse_arguments():
    parser = argparse.ArgumentParser(description="Prints the results of each completed job.")
    parser.add_argument("--beamline", type=routing_word, help="such as p11; default: all")
    parser.add_argument("--beamtime-id", type=routing_word, help="default: all")
    parser.add_argument("--since", type=past_time, metavar="TIME", help="first those since then: 30m, 2h, 3d, or ISO")
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


def routing_word(name):
    return name.replace(".", "-")


def past_time(text):
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if ago:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return datetime.now(timezone.utc) - timedelta(**{unit: int(ago[1])})
    try:
        return parse_iso(text)
    except ValueError:
        raise argparse.ArgumentTypeError("looks like 30m, 2h, 3d, or 2026-11-21T20:15:00Z") from None


def parse_iso(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()


def one_line(event):
    data = event["data"]
    paths = [result.get("beamlinePath") or result["path"] for result in data["results"]]
    session = data["session"]
    return " ".join([event["time"], session["beamline"] or "-", session["id"] or "-", data["job"]["trigger"], *paths])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
