import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeMessage } from "../../src/messages/cloud-event.ts";
import {
  DuplicateKey,
  parseJson,
  parsePlainJson,
  plainNumbers,
  TooDeep,
  tryPlainJson,
  writeJson,
} from "../../src/messages/json.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";

const digits = fc.stringMatching(/^(0|[1-9][0-9]{0,40})$/);
const number = fc
  .tuple(
    fc.constantFrom("", "-"),
    digits,
    fc.stringMatching(/^(|\.[0-9]{1,30})$/),
    fc.stringMatching(/^(|[eE][+-]?[0-9]{1,4})$/),
  )
  .map((parts) => parts.join(""));
/** Longer than what lossless-json is given, or looking like what stands for such there. */
const long = fc.oneof(fc.string({ minLength: 17, maxLength: 60 }), fc.stringMatching(/^@[0-9]{0,3}$/));
const key = fc.oneof(fc.string(), long).filter((one) => one !== "__proto__");
/** JSON text without spaces, with any numbers. */
const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4 },
    number,
    fc.string({ unit: "binary" }).map((text) => JSON.stringify(text)),
    long.map((text) => JSON.stringify(text)),
    fc.constantFrom("true", "false", "null"),
    fc.array(tie("json"), { maxLength: 4 }).map((items) => `[${items.join(",")}]`),
    fc
      .uniqueArray(fc.tuple(key, tie("json")), { maxLength: 4, selector: ([name]) => name })
      // An object has its keys that are numbers first.
      .map((members) => members.map(([name, value]) => `${JSON.stringify(`k${name}`)}:${value}`))
      .map((members) => `{${members.join(",")}}`),
  ),
}));

describe("numbers", () => {
  it.each([
    "9007199254740993",
    "1.0",
    "-0",
    "1e400",
    "1E5",
    "0.1000000000000000055511151231257827",
    "-0.0e-0",
  ])("%s stays as it was written", (text) => {
    expect(writeJson(parseJson(`[${text}]`))).toBe(`[${text}]`);
  });

  it("any JSON is written as it was read, and read as JSON.parse reads it", () => {
    fc.assert(
      fc.property(json, (text) => {
        const value = parseJson(text);
        expect(writeJson(value)).toBe(text);
        // Beyond all numbers there is nothing to compare.
        if (/[eE]/.test(text)) return;
        expect(JSON.parse(JSON.stringify(value))).toEqual(JSON.parse(JSON.stringify(JSON.parse(text))));
      }),
    );
  });

  it("is plain outside of parameters, where Mento counts with it", () => {
    const text = '{"path":"/a","scan":1.0,"bytes":1E5,"parameters":{"x":[1.0,9007199254740993]}}';
    const { facts, bytes } = readTriggerInput(decodeMessage(Buffer.from(text), {}));
    expect([facts.scan, bytes]).toEqual([1, [100_000]]);
    expect(writeJson(facts.parameters)).toBe('{"x":[1.0,9007199254740993]}');
    expect(plainNumbers(facts.parameters["x"], [])).toEqual([1, 9007199254740992]);
  });
});

describe("JSON from outside", () => {
  const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
  const objects = (levels: number) => '{"a":'.repeat(levels) + "1" + "}".repeat(levels);

  it.each([parseJson, parsePlainJson])(
    "is read as deep as 250 levels, and refused in words beyond",
    (parse) => {
      for (const text of [nested, objects]) {
        expect(() => parse(text(250))).not.toThrow();
        for (const levels of [251, 100_000]) {
          expect(() => parse(text(levels))).toThrow(TooDeep);
          expect(() => parse(text(levels))).toThrow("it is nested more than 250 levels deep");
          expect(tryPlainJson(text(levels))).toBeUndefined();
        }
      }
    },
  );

  it.each([
    ["a".repeat(2000), `"${"a".repeat(2000)}"`, `"\\u0061${"a".repeat(1999)}"`],
    ["@0", '"@0"', '"\\u00400"'],
    ["a", '"a"', '"\\u0061"'],
  ])("may have a key twice with one value, however it is written", (key, one, other) => {
    expect(parseJson(`{${one}:${other},${other}:${one}}`)).toEqual({ [key]: key });
    expect(() => parseJson(`{${one}:1,${other}:2}`)).toThrow(new DuplicateKey(key));
    expect(() => parseJson(`{"x":{${one}:"${key}",${other}:"${key}b"}}`)).toThrow(DuplicateKey);
  });

  it("with a long string takes tens of times as long as JSON.parse alone, and not hundreds", () => {
    const text = JSON.stringify({ a: "y".repeat(1_000_000) });
    const quickest = (parse: (text: string) => unknown) =>
      Math.min(
        ...Array.from({ length: 20 }, () => {
          const start = performance.now();
          parse(text);
          return performance.now() - start;
        }),
      );
    expect(quickest(parseJson) / quickest((one) => JSON.parse(one) as unknown)).toBeLessThan(60);
  });

  it("that is none is said where it stands, behind long strings too", () => {
    const text = `{"a":"${"y".repeat(100)}",}`;
    expect(() => parseJson(text)).toThrow(SyntaxError);
    expect(() => parseJson(text)).toThrow(/position 108|line 1 column 109|is not valid JSON/);
    for (const wrong of ['"\\x"', `"${"y".repeat(100)}`, '"\n"', `"${"y".repeat(100)}\u0000"`])
      expect(() => parseJson(wrong)).toThrow(SyntaxError);
  });

  it("is as deep as its brackets are, whatever its texts hold", () => {
    const value = { "[[{": ["\\", '"[', `${"[".repeat(300)}\\"`] };
    expect(parsePlainJson(JSON.stringify(value))).toEqual(value);
    expect(parseJson(JSON.stringify(value))).toEqual(value);
  });
});
