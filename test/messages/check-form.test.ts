import { describe, expect, it } from "vitest";
import { checkForm } from "../../src/messages/check-form.ts";
import { DataReady } from "../../src/messages/data-ready.ts";

const mistake = (value: unknown) => checkForm(DataReady, value, { path: 1000 }).mistake;

describe("a mistake in a message's form is said in plain words, with its place, what is there and what is wanted", () => {
  it.each([
    [
      {},
      "data.path: must be an absolute path like /gpfs/current/raw/a.h5, or a list of 1 to 1000, each of at most 4096 characters, and is missing",
    ],
    [
      { path: 17 },
      "data.path: must be an absolute path like /gpfs/current/raw/a.h5, or a list of 1 to 1000, each of at most 4096 characters, not 17",
    ],
    ...["raw/a.h5", "file:///gpfs/current/raw/a.h5", "C:\\data\\a.h5", "", "./a"].map(
      (path): [unknown, string] => [
        { path },
        `data.path: must be an absolute path like /gpfs/current/raw/a.h5, without NUL bytes, not the text ${JSON.stringify(path)}`,
      ],
    ),
    [{ path: "/a", detector: 5 }, "data.detector: must be text, not 5"],
    [{ path: "/a", detector: "" }, "data.detector: must not be empty"],
    [{ path: "/a", parameters: [1] }, "data.parameters: must be an object, not a list"],
    [{ path: "/a", parameters: null }, "data.parameters: must be an object, not null"],
    [
      { path: "/a", bytes: "5" },
      'data.bytes: must be a whole number of bytes, or a list of them, not the text "5"',
    ],
    [
      { path: "/a", beamtimeId: "../x" },
      'data.beamtimeId: must be an id like 11010000 or c20210823_000_MAA, not the text "../x"',
    ],
    [
      { path: "/a", detectr: 1, b: 2 },
      'data: has "detectr" (did you mean detector?), "b", which Mento does not know',
    ],
    ["x", 'data: must be an object, not the text "x"'],
    [[], "data: must be an object, not a list"],
    [undefined, "data: must be an object, and is missing"],
  ])("%j", (value, words) => {
    expect(mistake(value)).toBe(words);
  });
});
