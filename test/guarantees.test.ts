import { readFileSync, readdirSync } from "node:fs";
import { expect, it } from "vitest";

const top = new URL("../", import.meta.url);
const text = readFileSync(new URL("docs/guarantees.md", top), "utf8");
function rowsOf(heading: string): string[] {
  const section = text.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  return section
    .split("\n")
    .filter((line) => line.startsWith("| ") && !/^\| (what happen|limit |-+)/.test(line));
}

function sourceOf(name: string): string {
  const files = readdirSync(new URL("test/", top), { recursive: true, encoding: "utf8" });
  const file = files.find((one) => one === `${name}.test.ts` || one.endsWith(`/${name}.test.ts`));
  expect(file, name).toBeDefined();
  return readFileSync(new URL(`test/${file ?? ""}`, top), "utf8");
}

it.each([
  ["Failures of other systems", 17],
  ["What others write", 88],
  ["RabbitMQ's limits", 11],
])("the documentation names a test for each row of %s, and the test is there", (heading, count) => {
  const rows = rowsOf(heading);
  expect(rows).toHaveLength(count);
  for (const row of rows) {
    const tests = row.split(" | ").slice(1).join(" | ");
    const named = [...tests.matchAll(/([\w/-]+): `([^`]+)`/g)];
    expect(named.length, row).toBeGreaterThan(0);
    for (const [, file = "", title = ""] of named) expect(sourceOf(file), title).toContain(title);
  }
});
