import * as z from "zod";

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

const IsoTime = z.union([z.iso.datetime({ offset: true, local: true }), z.iso.date()]);

/** How a time of the past is written. */
export const PAST_TIME_FORMS = "90s, 30m, 2h, 3d, or 2026-11-21T20:15:00Z";

/**
 * `90s`, `30m`, `2h`, `3d` before now, or an ISO time; one without a zone is of this host's zone. Undefined for
 * anything else.
 */
export function parsePastTime(text: string, now: Date): Date | undefined {
  const [, amount, unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (amount !== undefined)
    return new Date(now.getTime() - Number(amount) * (UNIT_SECONDS[unit] ?? 0) * 1000);
  if (!IsoTime.safeParse(text).success) return undefined;
  return new Date(text.includes("T") ? text : `${text}T00:00:00`);
}
