#!/usr/bin/python3
"""Publishes a "data ready" message and waits for the end of the jobs that it starts. Needs nothing but pika.

    publish_and_wait.py --path /gpfs/current/raw/s1/scan_0001_master.h5 --beamline p11

The broker is given with --url or in MENTO_BROKER_URL: amqp://user:password@host:5672/vhost, special characters
percent-encoded. Every event that the message causes is printed as one line, with --json as one JSON object.

Exit status:
  0  the jobs completed
  1  a job failed, was cancelled or was lost; or the message was rejected, or ignored by all; or --timeout is over
  2  wrong usage
  3  the broker is out of reach, has no Mento exchanges, or has no worker group that listens
"""

import argparse
import json
import os
import sys
import time
import uuid
from datetime import datetime, timezone

import pika
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

TYPE = "mento.data.ready.v1"
COMPLETED = "mento.job.completed.v1"
JOB_ENDS = (COMPLETED, "mento.job.failed.v1", "mento.job.cancelled.v1", "mento.job.lost.v1")
REFUSALS = ("mento.message.rejected.v1", "mento.message.ignored.v1")

# A message may start several jobs, and nothing says how many: a short one may have ended before the next is announced.
SETTLE_SECONDS = 1.0


class OutOfReach(Exception):
    """There is no Mento to talk to; the text says why."""


def main():
    options = parse_arguments()
    deadline = time.monotonic() + options.timeout if options.timeout else None
    message = data_ready(options)
    key = routing_key(options)
    try:
        with connect(options.url) as connection:
            channel = connection.channel()
            # The queue first, then the message: so no event is missed.
            queue = own_queue(channel, f"{options.prefix}.events", ("*.*.job.*", "*.*.message.*"))
            publish(channel, f"{options.prefix}.data", key, message)
            print(f"published {message['id']} to {options.prefix}.data as {key}", file=sys.stderr)
            return follow(channel, queue, message["id"], deadline, options.json)
    except ChannelClosedByBroker as error:  # such as: no exchange 'mento.events', no right to use it
        raise OutOfReach(f"the broker said {error.reply_text}: has a Mento worker ever run on it?") from None
    except AMQPError as error:
        raise OutOfReach(f"the connection to the broker broke ({describe(error)}); message {message['id']}") from None


def parse_arguments():
    parser = argparse.ArgumentParser(description="Publishes a data-ready message and waits for its jobs to end.")
    parser.add_argument("--path", required=True, action="append", help="of the data; may be given several times")
    parser.add_argument("--beamline", help="such as p11; default: the worker's")
    parser.add_argument("--beamtime-id", help="default: the beamtime that is open at the beamline")
    parser.add_argument("--parameters", type=json_object, metavar="JSON", help="an object for the worker's templates")
    parser.add_argument("--url", default=os.environ.get("MENTO_BROKER_URL"), help="default: $MENTO_BROKER_URL")
    parser.add_argument("--prefix", default="mento", help="of the names on the broker; default: %(default)s")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="default: wait for ever")
    parser.add_argument("--json", action="store_true", help="print events as they are, one JSON object a line")
    options = parser.parse_args()
    if not options.url:
        parser.error("no broker is given: use --url or MENTO_BROKER_URL")
    try:
        options.url = parse_url(options.url)
    except (ValueError, TypeError):
        parser.error("the broker's URL is not of the form amqp://user:password@host:port/vhost (percent-encoded)")
    return options


def json_object(text):
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def seconds(text):
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def parse_url(url):
    if not url.startswith(("amqp://", "amqps://")):
        raise ValueError("not an AMQP URL")
    parameters = pika.URLParameters(url)
    parameters.blocked_connection_timeout = 30  # seconds that a broker short of memory or disk may hold us up
    return parameters


def connect(parameters):
    where = f"{parameters.host}:{parameters.port}"
    try:
        return pika.BlockingConnection(parameters)
    except (ProbableAuthenticationError, ProbableAccessDeniedError):
        raise OutOfReach(f"the broker at {where} refused the login or the virtual host") from None
    except (AMQPError, OSError) as error:
        raise OutOfReach(f"the broker at {where} cannot be reached: {describe(error)}") from None


def describe(error):
    # pika packs the reason of a failed connection into errors of its own.
    while isinstance(error, AMQPError) and error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    return str(getattr(error, "exception", error)) or type(error).__name__


def own_queue(channel, exchange, keys):
    """A queue that is ours alone and goes when we go, bound to what we want to hear."""
    queue = channel.queue_declare(queue="", exclusive=True, auto_delete=True).method.queue
    for key in keys:
        channel.queue_bind(queue, exchange, key)
    return queue


def data_ready(options):
    """A CloudEvent that says: this data is there."""
    data = {
        "path": options.path[0] if len(options.path) == 1 else options.path,
        "beamline": options.beamline,
        "beamtimeId": options.beamtime_id,
        "parameters": options.parameters,
    }
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/example/python",
        "type": TYPE,
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {key: value for key, value in data.items() if value is not None},
    }


def routing_key(options):
    """<beamline>.<beamtime>.data.ready: an unknown part is `-`, a dot inside one (p02.1) is written `-` too."""
    parts = (options.beamline or "-", options.beamtime_id or "-")
    return ".".join(part.replace(".", "-") for part in parts) + ".data.ready"


def publish(channel, exchange, key, message):
    """Returns when the broker has the message safe in a queue."""
    properties = pika.BasicProperties(
        content_type="application/cloudevents+json",
        message_id=message["id"],
        type=message["type"],
        delivery_mode=2,  # survives a restart of the broker
    )
    channel.confirm_delivery()
    try:
        channel.basic_publish(exchange, key, json.dumps(message).encode(), properties, mandatory=True)
    except UnroutableError:
        raise OutOfReach(f"no queue is bound to {exchange} for {key}: no worker group would ever see it") from None


def follow(channel, queue, message_id, deadline, as_json):
    """Prints each event that our message caused, until nothing more can come. Returns the exit status."""
    jobs = {}  # how each job ended: the event's type, None as long as it has not
    refusals = []
    seen = set()
    quiet_since = time.monotonic()
    for _, _, body in channel.consume(queue, auto_ack=True, exclusive=True, inactivity_timeout=0.1):
        now = time.monotonic()
        event = caused_by(message_id, body)
        if event and event["id"] not in seen:  # an event may be announced twice: it then has the same id
            seen.add(event["id"])
            quiet_since = now
            print(json.dumps(event, ensure_ascii=False) if as_json else one_line(event), flush=True)
            if event["type"] in JOB_ENDS:
                jobs[event["data"]["job"]["id"]] = event["type"]
            elif "job" in event["data"]:
                jobs.setdefault(event["data"]["job"]["id"])  # its end may have come first, from another worker
            elif event["type"] in REFUSALS:
                refusals.append(event["type"])
        ends = [*jobs.values(), *refusals]
        if ends and None not in ends and now > quiet_since + SETTLE_SECONDS:
            return exit_status(ends)
        if deadline and now > deadline:
            print(f"the time is over; message {message_id} and its jobs go on without us", file=sys.stderr)
            return 1


def caused_by(message_id, body):
    """The event in `body`, or None if it is not about our message."""
    try:
        event = json.loads(body)
        return event if event["data"]["cause"]["id"] == message_id else None
    except (ValueError, KeyError, TypeError):
        return None


def exit_status(ends):
    # Each worker group judges a message for itself: what one group ignored, another may have run.
    verdicts = [end for end in ends if end != "mento.message.ignored.v1"]
    return 0 if verdicts and all(end == COMPLETED for end in verdicts) else 1


def one_line(event):
    """12:30:01 job.completed azimuthal k3f7 /asap3/…/profile.dat /asap3/…/profile.png"""
    data = event["data"]
    parts = [event["time"][11:19], event["type"].removeprefix("mento.").removesuffix(".v1")]
    job = data.get("job") or {}
    parts += [job[key] for key in ("trigger", "id") if job.get(key)]
    parts += [result["path"] for result in data.get("results") or []]
    error = data.get("error")
    if error:
        parts.append(f"{error['code']}: {error['message']}")
        if error.get("hint"):
            parts.append(f"({error['hint']})")
    return " ".join(" ".join(parts).split())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OutOfReach as problem:
        print(f"publish_and_wait.py: {problem}", file=sys.stderr)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
