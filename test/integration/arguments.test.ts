import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { JobMethod } from "../../src/messages/job-event.ts";
import { beamtime, TestSite, writeOnCore } from "../support/site.ts";
import { slurmRestSection, submitHostIn } from "../support/submit-host.ts";

/** Of each method. */
const ARGUMENTS = 100_000;
const PER_MESSAGE = 5_000;

const top = mkdtempSync("/tmp/mento-arguments-");
const triggerOf = (method: JobMethod) => ({
  name: method,
  method,
  on: { technique: method },
  run: ["/usr/bin/python3", PROGRAM, "{{ parameters.arguments }}"],
});
/** A program that is no shell writes what it was given, each ended by NUL. */
const PROGRAM = join(beamtime.corePath, "shared/write_arguments.py");
const configuration = { site: { localJobs: join(top, "jobs") }, slurmRest: slurmRestSection() };
const ofSubmitHost: JobMethod = "local-sbatch-script";
const others = JobMethod.options.filter((one) => one !== ofSubmitHost);
const site = new TestSite(others.map(triggerOf), configuration);
const submitHost = new TestSite([triggerOf(ofSubmitHost)], configuration);

const odd = fc.constantFrom(
  ...[
    "",
    " ",
    "-",
    "--help",
    "-rf",
    "$(touch /tmp/no)",
    "`id`",
    "$HOME",
    "'",
    '"',
    "\\",
    "\\n",
    "\n",
    "\r\n",
    "\t",
  ],
  ...[
    ";",
    "&&",
    "|",
    ">",
    "*",
    "?",
    "~",
    "#",
    "!",
    "{a,b}",
    "{{ path }}",
    "%s",
    "\u0001",
    "\u007f",
    "é",
    "日本",
    "😀",
  ],
  ...["\u202e", "\u2028", "\ufeff", "EOF", "'; exit 1; '", "=", "/gpfs", "../.."],
);
const text = fc.oneof(
  { weight: 3, arbitrary: fc.array(odd, { maxLength: 5 }).map((parts) => parts.join("")) },
  {
    weight: 1,
    arbitrary: fc.string({ unit: "binary", maxLength: 12 }).map((one) => one.replaceAll("\0", "")),
  },
);

/** An argument of 100 kB, too, in each message. */
function generate(seed: number): string[] {
  const list = fc.sample(text, { numRuns: PER_MESSAGE - 1, seed });
  return [...list, "'\"\\$\n".repeat(20_000)].map((one) => one.toWellFormed());
}

beforeAll(async () => {
  mkdirSync(join(beamtime.corePath, "shared"), { recursive: true });
  writeFileSync(
    PROGRAM,
    `import os, sys
with open(os.environ["MENTO_RESULTS_DIR"] + "/arguments", "wb") as file:
    file.write(b"".join(os.fsencode(one) + b"\\0" for one in sys.argv[1:]))
`,
  );
  chmodSync(submitHost.folder, 0o755);
  await Promise.all([site.startWorker(), submitHost.startWorker(submitHostIn(top))]);
});
afterAll(async () => {
  await Promise.all([site.tearDown(), submitHost.tearDown()]);
  rmSync(top, { recursive: true, force: true });
});

describe.each(JobMethod.options)("%s", (method) => {
  it(`gives a program ${ARGUMENTS} generated arguments byte for byte`, async () => {
    const lists = Array.from({ length: ARGUMENTS / PER_MESSAGE }, (_, seed) => generate(seed));
    const at = method === ofSubmitHost ? submitHost : site;
    const client = await at.client();
    const sent: [id: string, list: string[]][] = [];
    for (const list of lists) {
      const message = { path: writeOnCore(), technique: method, parameters: { arguments: list } };
      sent.push([(await publishDataReady(client, message)).id, list]);
    }
    for (const [id, list] of sent) {
      const { data } = await at.event("job.completed", id);
      const arrived = readFileSync(data.results[0]?.path ?? "", "utf8")
        .split("\0")
        .slice(0, -1);
      expect(arrived.length).toBe(list.length);
      const differing = arrived.findIndex((one, index) => one !== list[index]);
      expect({ differing, got: arrived[differing] }).toEqual({ differing: -1, got: undefined });
    }
  });
});
