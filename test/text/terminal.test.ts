import fc from "fast-check";
import { expect, it, vi } from "vitest";
import { eventLine } from "../../src/commands/event-line.ts";
import { plainLogLine } from "../../src/log.ts";
import { plainJson, plainLine, plainText, printLine, sayLine } from "../../src/text/terminal.ts";

it("shows what would move the cursor, and leaves all else as it is", () => {
  expect(plainText("a\u001b[31mb")).toBe("a\\u{1b}[31mb");
  expect(plainText("größer 2 µm\n\tx")).toBe("größer 2 µm\n\tx");
  expect(plainText("a\u202eb\u0000")).toBe("a\\u{202e}b\\u{0}");
  expect(plainLine(" a\n\tb ")).toBe("a b");
  expect(plainLine("abcdef", 3)).toBe("abc…");
});

it("is one line without control characters, whatever the text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(plainLine(text)).not.toMatch(/\p{Cc}|\p{Cf}|\u2028|\u2029/u);
    }),
  );
});

/** What a terminal acts on, or does not show. */
const UNSEEN = /\p{Cc}|\p{Cf}|\p{Cs}|\p{Zl}|\p{Zp}|\p{Default_Ignorable_Code_Point}/u;
const HOSTILE =
  "a\u001b]0;t\u0007\u009b2J\u007f\u202e\u2066\u061c\u200f\u2028\u200b\u{e0041}\u3164\ufe0f\ud800b";
const anything = () => fc.string({ unit: "binary" });

it("shows what is not seen, of whatever kind", () => {
  expect(plainText(HOSTILE)).not.toMatch(UNSEEN);
  expect(plainText(HOSTILE)).toContain("\\u{202e}\\u{2066}\\u{61c}");
  expect(plainText(`e${"\u0301".repeat(100)}`)).toBe(`e${"\u0301".repeat(4)}${"\\u{301}".repeat(96)}`);
});

it("prints JSON that is the same to a parser, and shows nothing that a terminal acts on", () => {
  expect(plainJson({ a: "\u009b\u{e0041}" })).toBe('{"a":"\\u009b\\udb40\\udc41"}');
  fc.assert(
    fc.property(fc.jsonValue(), anything(), (value, text) => {
      const json = plainJson({ value, [text]: text });
      expect(json).not.toMatch(UNSEEN);
      expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify({ value, [text]: text })));
    }),
  );
});

it.each([
  ["printLine", printLine],
  ["sayLine", sayLine],
] as const)("%s writes one line, of bounded length", (_, print) => {
  const written: unknown[] = [];
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation((text) => written.push(text) > 0),
  );
  try {
    fc.assert(
      fc.property(anything(), (text) => {
        written.length = 0;
        print(text);
        expect(written).toHaveLength(1);
        expect(String(written[0]).slice(0, -1)).not.toMatch(UNSEEN);
      }),
    );
    print("x".repeat(1_000_000));
    expect(String(written.at(-1)).length).toBeLessThan(11_000);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
});

it("prints an event on one line, whatever is in it", () => {
  fc.assert(
    fc.property(anything(), anything(), anything(), (type, id, message) => {
      const data = { error: { code: "x", message }, paths: [id], cause: { id }, reasons: [] };
      const line = eventLine({ specversion: "1.0", id, source: id, type, time: message, data });
      expect(line).not.toMatch(UNSEEN);
      expect(line.length).toBeLessThan(20_000);
    }),
  );
});

it("writes log lines that are JSON, of bounded length, without what a terminal acts on", () => {
  fc.assert(
    fc.property(anything(), (text) => {
      const line = plainLogLine(`${JSON.stringify({ level: 30, msg: text })}\n`);
      expect(line.slice(0, -1)).not.toMatch(UNSEEN);
      expect(JSON.parse(line)).toEqual({ level: 30, msg: text });
    }),
  );
  const facts = { level: 30, msg: "x".repeat(1_000_000), issues: Array<string>(100_000).fill("issue") };
  expect(plainLogLine(JSON.stringify(facts)).length).toBeLessThan(20_000);
  const keys = Object.fromEntries(Array.from({ length: 100_000 }, (_, key) => [`k${key}`, key]));
  expect(JSON.parse(plainLogLine(JSON.stringify({ ...facts, ...keys })))).toHaveProperty("leftOut");
});
