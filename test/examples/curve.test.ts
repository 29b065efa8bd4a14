import fc from "fast-check";
import { expect, it } from "vitest";
import { parseCurve } from "../../examples/live-plot/curve.mjs";

const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value || 0);

it("a table of numbers is read as it was written, whatever separates its columns", () => {
  const row = fc.tuple(number, number, number);
  const separator = fc.constantFrom(" ", "  ", "\t", ",", ", ", ";");
  fc.assert(
    fc.property(fc.array(row, { minLength: 1 }), separator, (rows, between) => {
      const text = rows.map((one) => ` ${one.join(between)}`).join("\r\n");
      expect(parseCurve(text, [1, 3])).toEqual({
        ...{ x: rows.map(([x]) => x), y: rows.map(([, , y]) => y), labels: ["", ""] },
      });
    }),
  );
});

it("any other text has no numbers", () => {
  const word = /^[a-df-z#]+$/;
  fc.assert(
    fc.property(fc.array(fc.stringMatching(word)), (lines) => {
      expect(() => parseCurve(lines.join("\n"), [1, 2])).toThrow("no numbers in columns 1 and 2");
    }),
  );
  expect(() => parseCurve("1\n2\n3\n", [1, 2])).toThrow("no numbers in columns 1 and 2");
});

it("the last line of the header names the columns, if it has a name for each", () => {
  expect(parseCurve("# made by pyFAI\n# q_nm^-1 I sigma\n1 2 3\n", [1, 2]).labels).toEqual(["q_nm^-1", "I"]);
  expect(parseCurve("# made by pyFAI at noon\n1 2 3\n", [1, 2]).labels).toEqual(["", ""]);
});

it("rows that lack a column, or hold no number there, are left out", () => {
  expect(parseCurve("1 2\n2 nan\n3\n4 5\n", [1, 2])).toMatchObject({ x: [1, 4], y: [2, 5] });
});
