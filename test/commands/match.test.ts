import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { previewLines, previewsOf, sessionFor } from "../../src/commands/match-preview.ts";
import { parseConfig } from "../../src/config/config-file.ts";
import { decodeMessage } from "../../src/messages/cloud-event.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { jobEndedEvent } from "../triggers/job-ended.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-match-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const TRIGGERS = `triggers:
  - name: azimuthal
    on: { technique: saxs }
    unless: { parameters: { dark: true } }
    run: [integrate, "{{ path }}", --out, "{{ results }}", --title, "{{ sample | default('no sample') }}"]
    env: { OMP_NUM_THREADS: "8" }
    workdir: "{{ corePath }}/shared"
    copyBack: { to: processed/onlineanalysis }
  - name: geometry
    run: [fit, "{{ parameters.poni }}"]
  - name: plot
    on: { type: job.completed, trigger: azimuthal }
    method: local-bash-script
    run: [/opt/viewer/plot, "{{ results[0].beamlinePath }}"]
    stdin: "{{ technique }}"
`;

async function match(message: object, gpfs = "/nonexistent/gpfs") {
  const site = `site: { gpfs: ${gpfs}, core: /nonexistent/asap3 }\n`;
  const { config, mistakes } = parseConfig(site + TRIGGERS, {});
  if (config === undefined) throw new Error(JSON.stringify(mistakes));
  const input = readTriggerInput(decodeMessage(Buffer.from(JSON.stringify(message)), {}));
  const warnings: string[] = [];
  const session = await sessionFor(input, config.site, (text) => warnings.push(text));
  const previews = previewsOf(input, config, session);
  return { previews, warnings, lines: previews.flatMap(previewLines) };
}

describe("mento match", () => {
  it("says which program would run, and why others would not", async () => {
    const { lines, previews } = await match({
      path: "/nonexistent/gpfs/current/raw/s1/a.h5",
      technique: "saxs",
    });
    expect(lines).toEqual([
      expect.stringMatching(/^azimuthal: would run \(remote-sbatch-script, job [a-z2-7]{26}\)$/),
      "    OMP_NUM_THREADS=8 integrate '<core path>/raw/s1/a.h5' --out '<core path>/processed/onlineanalysis/azimuthal/s1/a.h5' --title 'no sample'",
      "    in <core path>/shared",
      expect.stringMatching(
        /^geometry: would reject the message: .*needs parameters\.poni.*\[template-value-missing\]$/,
      ),
      expect.stringMatching(/^ {4}Send the value in the message/),
      "plot: would not run: it is data.ready; the trigger wants job.completed",
    ]);
    expect(previews.map(({ fires }) => fires)).toEqual([true, false, false]);
  });

  it("says that names of the session are not known, and why", async () => {
    const { warnings } = await match({ path: "/nonexistent/gpfs/current/raw/a.h5" });
    expect(warnings).toEqual([expect.stringMatching(/^No beamtime is open: .* stand in <…>\.$/)]);
  });

  it("takes what is open, by its metadata file", async () => {
    const current = join(folder, "gpfs/current");
    mkdirSync(current, { recursive: true });
    const core = "/asap3/petra3/gpfs/p11/2026/data/11010000";
    const metadata = { beamtimeId: "11010000", beamline: "p11", corePath: core };
    writeFileSync(join(current, "beamtime-metadata-11010000.json"), JSON.stringify(metadata));
    const { lines, warnings } = await match(
      { path: join(current, "raw/a.h5"), technique: "saxs" },
      join(folder, "gpfs"),
    );
    expect(warnings).toEqual([]);
    expect(lines[1]).toContain(`integrate ${core}/raw/a.h5 --out ${core}/processed/`);
  });

  it("says that a worker would reject what names another beamline than the session's", async () => {
    const message = { path: join(folder, "gpfs/current/raw/a.h5"), technique: "saxs", beamline: "p09" };
    const { lines, previews } = await match(message, join(folder, "gpfs"));
    expect(lines[0]).toMatch(/^azimuthal: would reject the message: .*at p11\. \[wrong-beamline\]$/);
    expect(previews[0]?.fires).toBe(false);
    const same = await match({ ...message, beamline: "P11" }, join(folder, "gpfs"));
    expect(same.previews[0]?.fires).toBe(true);
  });

  it("knows the session of a path on the core file system", async () => {
    const core = "/nonexistent/asap3/petra3/gpfs/p11/2026/data/11010000";
    const { lines } = await match({ path: `${core}/raw/a.h5`, technique: "saxs" });
    expect(lines[1]).toContain(
      `integrate ${core}/raw/a.h5 --out ${core}/processed/onlineanalysis/azimuthal/a.h5`,
    );
  });

  it("takes a job's event, and shows nothing that could move the cursor", async () => {
    const core = "/nonexistent/asap3/petra3/gpfs/p11/2026/data/11010000";
    const ended = (group?: string) => {
      const event = jobEndedEvent({ type: "job.completed", ...(group !== undefined && { group }) });
      const beamlinePath = "/nonexistent/gpfs/current/a\u001b[2J.png";
      const results = [{ path: `${core}/a.png`, beamlinePath, bytes: 1, mediaType: "image/png" }];
      return { ...event, data: { ...event.data, paths: [`${core}/raw/a.h5`], results } };
    };
    const { lines } = await match(ended());
    expect(lines.slice(-3)).toEqual([
      expect.stringMatching(/^plot: would run \(local-bash-script/),
      "    /opt/viewer/plot '/nonexistent/gpfs/current/a\\u{1b}[2J.png'",
      "    with saxs on its standard input",
    ]);
    const other = await match(ended("p09"));
    expect(other.lines.at(-1)).toBe("plot: would not run: group is p09; the trigger wants default");
  });
});
