/**
 * Slurm's durations in seconds: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS (sbatch(1), `--time`).
 * Infinity for UNLIMITED; undefined for anything else.
 */
export function slurmSeconds(text: string): number | undefined {
  if (/^(UNLIMITED|INFINITE)$/i.test(text)) return Infinity;
  const [, days, rest = ""] = /^(?:(\d+)-)?(\d+(?::\d+){0,2})$/.exec(text) ?? [];
  if (rest === "") return undefined;
  const parts = rest.split(":").map(Number);
  const [first = 0, second = 0, third = 0] = parts;
  if (days !== undefined) return Number(days) * 86_400 + first * 3600 + second * 60 + third;
  return parts.length === 3 ? first * 3600 + second * 60 + third : first * 60 + second;
}

/** A moment that Slurm says in seconds since 1970, as RFC 3339; undefined if it says none. */
export function slurmMoment(seconds: number | string | undefined): string | undefined {
  const number = Number(seconds);
  return Number.isInteger(number) && number > 0 && number < 1e11
    ? new Date(number * 1000).toISOString()
    : undefined;
}

/** As Slurm counts it: whole minutes, `D-HH:MM:00`. */
export function slurmTime(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const two = (number: number) => String(number).padStart(2, "0");
  const days = Math.floor(minutes / 1440);
  return `${days}-${two(Math.floor(minutes / 60) % 24)}:${two(minutes % 60)}:00`;
}
