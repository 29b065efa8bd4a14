import { InvalidArgumentError } from "commander";
import { setTimeout as sleep } from "node:timers/promises";
import { Unavailable } from "../errors.ts";
import { parsePastTime, PAST_TIME_FORMS } from "../messages/past-time.ts";

/** A time of the past, before now or ISO. */
export function timeOption(text: string, now = new Date()): Date {
  const time = parsePastTime(text, now);
  if (time !== undefined) return time;
  throw new InvalidArgumentError(`It looks like ${PAST_TIME_FORMS}.`);
}

/** The same, and not in the future. */
export function sinceOption(text: string, now = new Date()): Date {
  const since = timeOption(text, now);
  if (since <= now) return since;
  throw new InvalidArgumentError(
    "It is in the future: give a time of the past, 2h, or 2026-11-21T20:15:00Z.",
  );
}

export function countOption(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0 && value <= 1_000_000) return value;
  throw new InvalidArgumentError("It must be a whole number from 1 on.");
}

/** Messages a second, of `5/s`, `0.5/s` or `5`. */
export function rateOption(text: string): number {
  const [, amount] = /^(\d{1,4}(?:\.\d{1,3})?)(?:\/s)?$/.exec(text) ?? [];
  const rate = Number(amount);
  if (rate >= 0.1 && rate <= 1000) return rate;
  throw new InvalidArgumentError("It looks like 10/s, and is between 0.1/s and 1000/s.");
}

export const RATE_OPTION = ["--rate <n/s>", "how many messages a second", rateOption, 10] as const;

/** Resolves at most so often a second. */
export function pacer(perSecond: number): () => Promise<void> {
  let next = 0;
  return async () => {
    const now = performance.now();
    const at = Math.max(now, next);
    next = at + 1000 / perSecond;
    if (at > now) await sleep(at - now);
  };
}

/** A worker connects again by itself when the broker is lost; these commands do not: `hint` says how to go on. */
export function callAgain(error: unknown, hint: string): unknown {
  if (!(error instanceof Unavailable)) return error;
  if (error.code !== "broker-lost" && error.code !== "publish-unconfirmed") return error;
  return new Unavailable({ code: error.code, message: error.message, hint, cause: error });
}
