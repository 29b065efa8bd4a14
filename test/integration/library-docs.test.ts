import { spawn } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../support/eventually.ts";
import { run, runNode, tryMento } from "../support/mento.ts";
import { nodeThere, there } from "../support/servers.ts";
import { beamtime, facility, TestSite } from "../support/site.ts";

const project = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "mento-snippets-"));
const site = new TestSite([]);
const integrate = join(facility.roots.core, "petra3/gpfs/common/p11/bin/integrate");

beforeAll(async () => {
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(project, join(folder, "node_modules/mento"));
  mkdirSync(join(integrate, ".."), { recursive: true });
  writeFileSync(`${integrate}.new`, '#!/bin/sh\necho "integrates $1"\n');
  chmodSync(`${integrate}.new`, 0o755);
  renameSync(`${integrate}.new`, integrate);
  await site.startWorker();
});
afterAll(async () => {
  await site.tearDown();
  rmSync(folder, { recursive: true });
});

/** As the documentation has it, with this facility's folders and broker. */
const here = (text: string) =>
  text
    .replaceAll("/asap3/petra3/gpfs/common/p11/bin/integrate", integrate)
    .replaceAll("/gpfs/current/", `${facility.roots.gpfs}/current/`)
    .replace(/url: "amqp:[^"]*"/g, `url: "${facility.broker.url}", prefix: "${site.prefix}"`);
const env = { MENTO_CONFIG: site.configFile };
const snippets = (file: string, language: string) =>
  [
    ...readFileSync(join(project, file), "utf8").matchAll(
      new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"),
    ),
  ].map(([, code = ""], at) => ({ file, at: at + 1, code }));

/** What a snippet prints, by where it stands. */
const SAYS: Record<string, RegExp> = {
  "docs/library.md 1": /^\d+ \/.*\ncompleted 0 undefined\n$/,
  "docs/library.md 2": /^total/,
  "docs/library.md 3": /^$/,
  "docs/library.md 4": /^unknown-beamtime There is no beamtime or commissioning run 99999999: /,
  "docs/library.md 5": /^$/,
  "docs/library.md 6": new RegExp(
    `^11010000 p11 .*\n${beamtime.account} [^]*${beamtime.corePath}/raw/s1/scan_0001_master.h5\n.*/beamline/p11/current/raw/s1/scan_0001_master.h5\n.*/gpfs/current/processed/onlineanalysis/s1/scan_0001_master_results.h5\n$`,
  ),
  "docs/coming-from-mento.md 1": /^$/,
};

describe.each([...snippets("docs/library.md", "js"), ...snippets("docs/coming-from-mento.md", "js")])(
  "the snippet $at of $file",
  ({ file, at, code }) => {
    it("runs, and says what it is to say", async () => {
      const module = join(folder, `${file.replaceAll(/\W/g, "-")}-${at}.mjs`);
      writeFileSync(module, here(code));
      const { code: exit, stdout, stderr } = await runNode([module], { env });
      expect({ exit, stderr }).toEqual({ exit: 0, stderr: "" });
      expect(stdout).toMatch(SAYS[`${file} ${at}`] ?? /^never$/);
    });
  },
);

describe.each(snippets("docs/library.md", "sh").flatMap(({ code }) => code.trim().split("\n")))(
  "%s",
  (line) => {
    it("is a command that works", async () => {
      const [, ...words] = here(line.replace(/ #.*/, "")).split(" ");
      const { code, stderr } = await tryMento(words, { env });
      expect(code, stderr).toBe(0);
    });
  },
);

describe("the README", () => {
  it("shows a job of a program's own that runs", async () => {
    const [first] = snippets("README.md", "ts");
    const module = join(folder, "readme-1.mjs");
    writeFileSync(module, `${here(first?.code ?? "")}\nconsole.log(state, results.length);`);
    const { stdout, stderr } = await runNode([module], { env });
    expect([stderr, stdout]).toEqual(["", "completed 0\n"]);
  });

  it("shows a subscription that is given events, and a message that the worker gets", async () => {
    const [, second] = snippets("README.md", "ts");
    const module = join(folder, "readme-2.mjs");
    writeFileSync(module, here(second?.code ?? ""));
    const child = spawn(...there(nodeThere(), [module], {}), { stdio: "pipe" });
    let out = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (out += String(chunk)));
    await eventually(
      () => `an event: ${out}`,
      () => out.includes("state: 'completed'") || undefined,
    );
    child.kill();
    await eventually("the worker has had the message", () => ofReadme().length > 0 || undefined);
  });

  it("shows a producer in Python that works", async () => {
    const before = ofReadme().length;
    const [code] = snippets("README.md", "python");
    const script = join(folder, "readme.py");
    writeFileSync(script, here(code?.code ?? "").replace('"mento.data"', `"${site.prefix}.data"`));
    const { code: exit, stderr } = await run("/usr/bin/python3", [script], {
      env: { MENTO_BROKER_URL: facility.broker.url },
    });
    expect([exit, stderr]).toEqual([0, ""]);
    await eventually("the worker has had the message", () => ofReadme().length > before || undefined);
  });

  const ofReadme = () =>
    site.events.filter(
      ({ type, data }) => type.includes("ignored") && String(data.paths).includes("scan_0001"),
    );
});

it("tells the broker of a job that a program has run", () => {
  const ofLibrary = site.events.filter(({ source }) => source.startsWith("/library/"));
  expect(ofLibrary.map(({ type }) => type)).toContain("mento.job.completed.v1");
});
