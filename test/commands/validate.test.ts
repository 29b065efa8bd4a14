import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { validateCommand } from "../../src/commands/validate.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-validate-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

it("mento validate knows a message that cancels jobs", () => {
  const file = join(folder, "cancel.json");
  const event = { specversion: "1.0", id: "1", source: "/s", type: "mento.job.cancel.v1" };
  writeFileSync(file, JSON.stringify({ ...event, data: { job: ["k3f7", "4711"] } }));
  const log = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    validateCommand().parse([file], { from: "user" });
    expect(log.mock.calls).toEqual([[`${file}: a valid mento.job.cancel.v1 message for 2 jobs\n`]]);
  } finally {
    log.mockRestore();
  }
});
