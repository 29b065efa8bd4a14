import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { publishCommand } from "../../src/commands/publish.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-publish-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

it.each([
  ["[".repeat(100_000) + "]".repeat(100_000), "it is nested more than 250 levels deep"],
  ['{"a":'.repeat(100_000) + "1" + "}".repeat(100_000), "it is nested more than 250 levels deep"],
  ["[1]", "it is not a JSON object"],
  ['{"a": 1, "a": 2}', "a"],
  ["{", ""],
])("mento publish says in a sentence with a code that its parameters are none", async (json, why) => {
  const file = join(folder, "parameters.json");
  writeFileSync(file, json);
  const args = ["data-ready", "--path", "/gpfs/current/raw/a.h5", "--parameters", `@${file}`];
  const publishing = publishCommand().parseAsync(args, { from: "user" });
  await expect(publishing).rejects.toMatchObject({
    code: "wrong-usage",
    message: expect.stringContaining(`--parameters cannot be used: ${why}`) as string,
  });
});
