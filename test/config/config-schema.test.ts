import { readFileSync, readdirSync } from "node:fs";
import { Ajv } from "ajv";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseConfig } from "../../src/config/config-file.ts";
import { MISTAKEN } from "../triggers/mistakes.ts";

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
const schema = JSON.parse(read("schemas/mento-config.json")) as object;
const isOfForm = new Ajv({ strict: true, allErrors: true, allowUnionTypes: true }).compile(schema);

/** Every configuration that the documentation and the examples show. */
const shown = [
  "README.md",
  ...filesIn("docs", ".md"),
  ...filesIn("examples", ".md"),
  ...filesIn("examples", ".yaml"),
].flatMap((file) => {
  const blocks = file.endsWith(".md")
    ? [...read(file).matchAll(/```yaml\n(.*?)```/gs)].map(([, yaml = ""]) => yaml)
    : [read(file)];
  return blocks.map((yaml, index) => ({ name: `${file}, configuration ${index + 1}`, yaml }));
});

function filesIn(folder: string, ending: string): string[] {
  return readdirSync(new URL(`../../${folder}`, import.meta.url), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(ending))
    .map((file) => `${folder}/${file}`);
}

describe("schemas/mento-config.json, by which editors check mento.yaml", () => {
  it.each(shown)("takes what Mento takes: $name", ({ yaml }) => {
    expect(parseConfig(yaml, {}).mistakes).toEqual([]);
    expect(isOfForm(parse(yaml)), JSON.stringify(isOfForm.errors)).toBe(true);
  });

  it.each(MISTAKEN)("sees $byForm: $says", ({ text, byForm }) => {
    expect(isOfForm(parse(text, { logLevel: "error" })), text).toBe(!byForm);
  });

  it.each([
    "broker: { url: http://x }",
    "worker: { concurrency: 1000 }",
    "worker: { keys: '#' }",
    "site: { core: asap3 }",
    "ssh: { maxChannels: 0 }",
    "triggers: []\nother: 1",
  ])("refuses what Mento refuses: %s", (text) => {
    expect(parseConfig(text, {}).mistakes).not.toEqual([]);
    expect(isOfForm(parse(text))).toBe(false);
  });

  it("describes every key, for the editor to show", () => {
    expect(undescribed(schema)).toEqual([]);
  });

  it("is of draft 7, the newest that yaml-language-server reads", () => {
    expect(schema).toMatchObject({ $schema: "http://json-schema.org/draft-07/schema#" });
  });
});

function undescribed(schema: object, place: readonly string[] = []): string[] {
  const { properties = {} } = schema as { properties?: Record<string, { description?: string }> };
  const here = Object.entries(properties).filter(
    ([, value]) => typeof value === "object" && !("description" in value),
  );
  const below = Object.entries(schema).filter(([, value]) => typeof value === "object" && value !== null);
  return [
    ...(place.at(-1) === "properties" ? [] : here.map(([key]) => [...place, key].join("."))),
    ...below.flatMap(([key, value]) => undescribed(value as object, [...place, key])),
  ];
}
