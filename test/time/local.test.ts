import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const FILE = fileURLToPath(new URL("../../dist/time/local.js", import.meta.url));

/** As a process of that zone says it. */
function localTimeIn(zone: string, time: string): string {
  const program = `import { localTime } from ${JSON.stringify(FILE)}; console.log(localTime(process.argv[1]))`;
  const args = ["--input-type=module", "--eval", program, time];
  return spawnSync(process.execPath, args, { env: { TZ: zone }, encoding: "utf8" }).stdout;
}

it.each([
  ["UTC", "2026-11-22T02:32:33.999Z", "2026-11-22T02:32:33+00:00"],
  ["Europe/Berlin", "2026-11-22T02:32:33Z", "2026-11-22T03:32:33+01:00"],
  ["Europe/Berlin", "2026-07-22T22:32:33Z", "2026-07-23T00:32:33+02:00"],
  ["America/St_Johns", "2026-11-22T02:32:33Z", "2026-11-21T23:02:33-03:30"],
  ["Asia/Kolkata", "2026-12-31T20:00:00Z", "2027-01-01T01:30:00+05:30"],
  ["UTC", "nonsense", "-".padEnd(25)],
])("a time in %s is said with its date and offset there", (zone, time, expected) => {
  expect(localTimeIn(zone, time)).toBe(`${expected}\n`);
});
