/** A moment for a person, by this host's clock and zone, to the second: `2026-11-22T03:32:33+01:00`. */
export function localTime(time: string | Date): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "-".padEnd("2026-11-22T03:32:33+01:00".length);
  const offset = -at.getTimezoneOffset();
  const local = new Date(at.getTime() + offset * 60_000).toISOString().slice(0, 19);
  const two = (value: number) => String(Math.floor(value)).padStart(2, "0");
  return `${local}${offset < 0 ? "-" : "+"}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`;
}
