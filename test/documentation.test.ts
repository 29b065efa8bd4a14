import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseConfig } from "../src/config/config-file.ts";
import { MentoConfig } from "../src/config/config-schema.ts";
import * as z from "zod";
import { ERROR_CODES } from "../src/errors.ts";
import { NOT_FROM_SCRIPT } from "../src/slurm/slurm-flags.ts";

const read = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), "utf8");

const list = (folder: string) => readdirSync(new URL(`../${folder}`, import.meta.url));
const pipelines = list("examples/pipelines").filter((one) => !one.includes("."));

describe("the documentation", () => {
  it("lists every error code with its meaning and what to do, and no other", () => {
    const rows = [...read("docs/errors.md").matchAll(/^\| `([a-z0-9-]+)` +\| (.*?) +\| (.*?) +\|$/gm)];
    expect(Object.fromEntries(rows.map(([, code, meaning]) => [code, meaning]))).toEqual(ERROR_CODES);
    for (const [, code, , whatToDo] of rows) expect(whatToDo, code).toMatch(/^[A-Z].*\.$/);
  });

  it("names every key of the configuration", () => {
    const text = read("docs/configuration.md");
    const schema = z.toJSONSchema(MentoConfig, { io: "input" }) as { properties: Record<string, object> };
    for (const key of keysOf(schema)) expect(text, key).toContain(`\`${key}\``);
  });

  it("names every directive of a user's own script that is left out", () => {
    const text = read("docs/configuration.md");
    for (const name of Object.keys(NOT_FROM_SCRIPT)) expect(text, name).toContain(`\`${name}\``);
  });

  it("shows configurations that are valid", () => {
    const blocks = ["README.md", "docs/configuration.md"].flatMap((file) => [
      ...read(file).matchAll(/```yaml\n(.*?)```/gs),
    ]);
    expect(blocks.length).toBeGreaterThan(1);
    for (const [, yaml = ""] of blocks) {
      expect(parseConfig(yaml, {}).mistakes, yaml).toEqual([]);
      expect(parse(yaml)).not.toBeNull();
    }
  });

  it("shows messages that are valid: each JSON block of docs/messages.md is JSON", () => {
    const blocks = [...read("docs/messages.md").matchAll(/```json\n(.*?)```/gs)];
    expect(blocks.length).toBeGreaterThan(1);
    for (const [, json = ""] of blocks) expect(() => JSON.parse(json) as unknown, json).not.toThrow();
  });

  it.each(pipelines)(
    "shows a pipeline whose configuration is valid, with the programs beside it: %s",
    (name) => {
      const text = read(`examples/pipelines/${name}/mento.yaml`);
      expect(parseConfig(text, {}).mistakes).toEqual([]);
      const programs = [...text.matchAll(/\/asap3\/petra3\/gpfs\/common\/p11\/bin\/([\w.]+)/g)];
      const there = [...list("examples/powder"), ...list(`examples/pipelines/${name}`)];
      for (const [, program = ""] of programs) expect(there).toContain(program);
      expect(read("examples/pipelines/README.md")).toContain(`[${name}](${name}/mento.yaml)`);
    },
  );

  it("has a README that can be read at a glance", () => {
    expect(read("README.md").split("\n").length).toBeLessThanOrEqual(150);
  });

  it("links to files that exist", () => {
    const files = [
      "README.md",
      "CONTRIBUTING.md",
      "examples/README.md",
      ...list("examples").flatMap((one) => (one.includes(".") ? [] : `examples/${one}/README.md`)),
      ...list("docs").map((one) => `docs/${one}`),
    ];
    for (const file of files) {
      for (const [, target = ""] of read(file).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
        expect(
          () => read(new URL(target, `file:///${file}`).pathname.slice(1)),
          `${file} → ${target}`,
        ).not.toThrow(/ENOENT/);
      }
    }
  });
});

function keysOf(schema: unknown): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  if (Array.isArray(schema)) return schema.flatMap(keysOf);
  const { properties } = schema as { properties?: object };
  const own = properties === undefined ? [] : Object.keys(properties);
  return [...own, ...Object.values(schema).flatMap(keysOf)];
}
