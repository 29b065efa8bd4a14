/** The seconds of `8h`, `20m`, `90s`, `HH:MM:SS` or `D-HH:MM:SS`; undefined for anything else, and for none at all. */
export function parseDuration(text: string): number | undefined {
  const seconds = secondsOf(text);
  return seconds !== undefined && seconds > 0 && seconds <= LONGEST ? seconds : undefined;
}

/** A year. */
const LONGEST = 365 * 24 * 3600;
const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600 };

function secondsOf(text: string): number | undefined {
  const [, amount, unit = ""] = /^(\d{1,8})([smh])$/.exec(text) ?? [];
  if (amount !== undefined) return Number(amount) * (UNITS[unit] ?? 0);
  const clock = /^(?:(\d{1,3})-)?(\d{1,3}):([0-5]\d):([0-5]\d)$/.exec(text);
  if (clock === null) return undefined;
  const [days = 0, hours = 0, minutes = 0, seconds = 0] = clock.slice(1).map((field) => Number(field || 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
}
