import { expect, it } from "vitest";
import { wholeProgram } from "../../src/commands/command-line.ts";
import { manPages } from "../../src/commands/man-page.ts";

const pages = manPages(await wholeProgram());

it("there is a manual page for each command, with its options and an example", () => {
  expect([...pages.keys()]).toEqual(
    expect.arrayContaining(["mento.1", "mento-watch.1", "mento-dead-replay.1", "mento-facility-up.1"]),
  );
  const page = pages.get("mento-watch.1") ?? "";
  expect(page).toContain(".TP\n.B \\-\\-no\\-follow\nend with the last event so far\n");
  expect(page).toContain("mento watch \\-\\-since 2h");
  expect(pages.get("mento.1")).toContain(".TP\n.B mento\\-trace(1)\nsay what became of data");
});

it("roff reads in them what was meant, and nothing else", () => {
  for (const [file, page] of pages) {
    const requests = page.split("\n").flatMap((line) => /^[.'](\S*)/.exec(line)?.[1] ?? []);
    expect(
      [...new Set(requests)].filter((one) => !/^(TH|SH|TP|B|BR|PP|RS|RE|nf|fi)$/.test(one)),
      file,
    ).toEqual([]);
    const escapes = page.match(/\\./g) ?? [];
    expect(
      [...new Set(escapes)].filter((one) => !["\\-", "\\e", "\\&"].includes(one)),
      file,
    ).toEqual([]);
    // An empty line is a paragraph of its own.
    expect(page, file).not.toContain("\n\n");
  }
});
