import { setTimeout as sleep } from "node:timers/promises";
import { openLink, type BrokerAddress, type BrokerLink } from "../broker/connection.ts";
import { MentoError, Unavailable, errorText } from "../errors.ts";
import type { Log } from "../log.ts";
import { backoff } from "../time/backoff.ts";

/** At start, RabbitMQ is tried for so long; later, for ever. */
const START_ATTEMPTS_MS = 20_000;
const FIRST_PAUSES = { first: 500, longest: 5_000 };
const PAUSES = { first: 1_000, longest: 30_000 };

/** amqplib's errors do not tell a lost connection from a mistake. */
export async function isLost(link: BrokerLink): Promise<boolean> {
  return Promise.race([link.lost.then(() => true), sleep(100, false)]);
}

/** The first link, tried for a bounded time; undefined if the worker was stopped meanwhile. */
export async function firstLink(
  address: BrokerAddress,
  log: Log,
  stop: AbortSignal,
): Promise<BrokerLink | undefined> {
  const until = Date.now() + START_ATTEMPTS_MS;
  for (let attempt = 1; !stop.aborted; attempt++) {
    try {
      return await openLink(address, stop);
    } catch (error) {
      const isFinal = error instanceof MentoError && error.code === "broker-refused";
      if (isFinal || Date.now() >= until) throw afterAttempts(error, attempt);
      log.warn({ attempt }, errorText(error));
      await pause(backoff(attempt - 1, FIRST_PAUSES), stop);
    }
  }
  return undefined;
}

function afterAttempts(error: unknown, attempts: number): unknown {
  if (attempts === 1 || !(error instanceof Unavailable)) return error;
  const { code, hint, message } = error;
  return new Unavailable({ code, hint, message: `${message} Tried ${attempts} times.`, cause: error });
}

/**
 * A link after one was lost: tried for ever, after 1, 2, 4 … 30 s with up to a fifth more at random.
 *
 * @param lostSoon so many in a row were lost soon after they had been opened: the first pause is as after so many attempts
 */
export async function nextLink(
  address: BrokerAddress,
  log: Log,
  stop: AbortSignal,
  lostSoon = 0,
): Promise<BrokerLink | undefined> {
  for (let attempt = Math.max(0, lostSoon - 1); ; attempt++) {
    await pause(backoff(attempt, PAUSES), stop);
    if (stop.aborted) return undefined;
    try {
      return await openLink(address, stop);
    } catch (error) {
      log.warn({ attempt }, errorText(error));
    }
  }
}

async function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal: stop }).catch(() => undefined);
}
