/** `2 d 3 h`, `7 h 59 min`, `12 min`, `45 s`. */
export function duration(seconds: number): string {
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ];
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 1 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/** `2026-11-21 23:15` in this host's time zone. */
export function localTime(iso: string): string {
  const at = new Date(iso);
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16).replace("T", " ");
}

/** The time of a clock that Slurm says, in seconds; null for what is none: unlimited, or beyond all dates. */
export function isoTime(seconds: number): string | null {
  return seconds > 0 && seconds < 1e11 ? new Date(seconds * 1000).toISOString() : null;
}

/** `1 message`, `2 messages`. */
export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
