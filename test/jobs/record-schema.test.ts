import { expect, it } from "vitest";
import { ENDED_BYTES, parseEnded } from "../../src/jobs/record-schema.ts";

const ended = (rest: string) =>
  parseEnded(Buffer.from(`at=2026-11-22T12:00:00Z\0code=0\0stoppedBy=\0log=\0${rest}`));

it("results beyond the limit are counted as the script has, whatever they look like, and change none before them", () => {
  const first = "result=1 /core/x\0copied=/gpfs/x\0".repeat(1000);
  const found = ended(`results=21001\0${first}result=odd\0copied=/elsewhere\0${"result=\0".repeat(20_000)}`);
  expect(found?.results).toHaveLength(1000);
  expect(found?.results.at(-1)).toEqual({ path: "/core/x", bytes: 1, beamlinePath: "/gpfs/x" });
  expect(found?.cut).toBe(20_001);
});

it("a record that is full of anything is parsed in bounded time", () => {
  for (const field of [
    "result=\0",
    "result=1 /a\0",
    "copied=/a\0",
    "a=\0",
    "\0",
    "result=1 /a\0copied=/b\0",
  ]) {
    const begun = performance.now();
    const found = ended(field.repeat(ENDED_BYTES / field.length));
    expect(found?.results.length).toBeLessThanOrEqual(1000);
    expect(performance.now() - begun).toBeLessThan(5000);
  }
});
