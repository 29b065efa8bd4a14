import { readFileSync, readdirSync } from "node:fs";
import { Ajv2020, type AnySchema } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { describe, expect, it } from "vitest";
import type * as z from "zod";
import { CloudEvent } from "../../src/messages/cloud-event.ts";
import { DataReady } from "../../src/messages/data-ready.ts";
import { CancelAnswer, JobCancel } from "../../src/messages/job-cancel.ts";
import { JobEventData, MessageEventData } from "../../src/messages/job-event.ts";
import { generateSchemas } from "../../src/config/schemas.ts";

const folder = new URL("../../schemas/", import.meta.url);
const readJson = (path: string): unknown => JSON.parse(readFileSync(new URL(path, folder), "utf8"));

const zodSchemas: Record<string, z.ZodType> = {
  "cancel-answer": CancelAnswer,
  "cloud-event": CloudEvent,
  "data-ready": DataReady,
  "job-cancel": JobCancel,
  "job-event": JobEventData,
  "message-event": MessageEventData,
};

describe("schemas/", () => {
  it("is what the source generates (npm run schemas writes it)", () => {
    for (const [file, schema] of Object.entries(generateSchemas())) {
      expect(readJson(file), file).toEqual(JSON.parse(JSON.stringify(schema)));
    }
    const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
    expect(files.sort()).toEqual(Object.keys(generateSchemas()).sort());
  });

  const ajv = new Ajv2020({ strict: true, allErrors: true });
  addFormats.default(ajv);
  const examples = ["good", "bad"].flatMap((kind) =>
    readdirSync(new URL(`examples/${kind}`, folder)).map((file) => ({ kind, file })),
  );

  it.each(examples)("ajv and zod agree that examples/$kind/$file is $kind", ({ kind, file }) => {
    const name = Object.keys(zodSchemas).find((one) => file.startsWith(one)) ?? "";
    const example = readJson(`examples/${kind}/${file}`);
    const schema = readJson(`${name}.json`) as AnySchema & { $id: string };
    const validate = ajv.getSchema(schema.$id) ?? ajv.compile(schema);
    expect(validate(example), JSON.stringify(validate.errors)).toBe(kind === "good");
    expect(zodSchemas[name]?.safeParse(example).success).toBe(kind === "good");
  });
});
