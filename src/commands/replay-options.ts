import { InvalidArgumentError } from "commander";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { Unavailable } from "../errors.ts";

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

const IsoTime = z.union([z.iso.datetime({ offset: true, local: true }), z.iso.date()]);

/** `90s`, `30m`, `2h`, `3d` before now, or an ISO time; one without a zone is of this host's zone. */
export function timeOption(text: string, now = new Date()): Date {
  const [, amount, unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (amount !== undefined)
    return new Date(now.getTime() - Number(amount) * (UNIT_SECONDS[unit] ?? 0) * 1000);
  if (IsoTime.safeParse(text).success) return new Date(text.includes("T") ? text : `${text}T00:00:00`);
  throw new InvalidArgumentError("It looks like 90s, 30m, 2h, 3d, or 2026-11-21T20:15:00Z.");
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
