import fc from "fast-check";
import { expect, it } from "vitest";
import { plainLine, plainText } from "../src/terminal.ts";

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
