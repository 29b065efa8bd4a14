import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { editedConfig } from "../../src/config/edited-config.ts";
import { eventually } from "../support/eventually.ts";

let folder: string;
let file: string;
let stop: AbortController;
let said: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mento-edited-"));
  file = join(folder, "mento.yaml");
  stop = new AbortController();
  said = [];
});
afterEach(() => {
  stop.abort();
  rmSync(folder, { recursive: true });
});

const withTrigger = (name: string) => `triggers:\n  - name: ${name}\n    run: [/bin/true]\n`;
const log = pino({ level: "error" }, { write: (line: string) => void said.push(line) });
const edited = (known: string) => editedConfig(file, known, {}, log, stop.signal);

describe("an edit", () => {
  it("that was saved before anybody looked is taken over", async () => {
    writeFileSync(file, withTrigger("two"));
    const next = await edited(withTrigger("one"));
    expect(next?.config.triggers.map(({ name }) => name)).toEqual(["two"]);
    expect(next?.text).toBe(withTrigger("two"));
  });

  it("that YAML cannot resolve is refused, and the next one taken", async () => {
    writeFileSync(file, "triggers: &a\n - *a\n");
    const next = edited(withTrigger("one"));
    await eventually("it is refused", () =>
      said.some((line) => line.includes("The edited configuration is not taken")) ? true : undefined,
    );
    writeFileSync(file, withTrigger("two"));
    expect((await next)?.config.triggers.map(({ name }) => name)).toEqual(["two"]);
  });
});
