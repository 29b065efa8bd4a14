import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join, relative as relativeTo } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { MentoConfig } from "../../src/config/config-schema.ts";
import { Trigger, TriggerMethod } from "../../src/library/trigger.ts";

const top = mkdtempSync(join(tmpdir(), "mento-trigger-"));
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(top, { recursive: true });
});

mkdirSync(join(top, "bin"));
vi.stubEnv("PATH", `${join(top, "bin")}:${process.env["PATH"] ?? ""}`);

function program(name: string, lines: string): void {
  writeFileSync(join(top, "bin", name), `#!/bin/sh\ncd '${top}' || exit 1\n${lines}\n`, { mode: 0o755 });
}

/** A Slurm that holds its first job, because its reservation was deleted, and runs any other. */
function fakeSlurm(): void {
  writeFileSync(join(top, "jobs"), "");
  program(
    "sbatch",
    `while case $1 in -*) ;; *) false ;; esac; do
  case $1 in --comment=*) comment=\${1#*=} ;; --chdir=*) folder=\${1#*=} ;; esac
  shift
done
id=$((4001 + $(wc -l < jobs)))
echo "$id $comment $folder" >> jobs
[ "$id" = 4001 ] || SLURM_JOB_ID=$id setsid sh "$@" > /dev/null 2>&1 < /dev/null &
echo "$id"`,
  );
  program(
    "squeue",
    `while read -r id comment folder; do
  state=RUNNING
  [ "$id" != 4001 ] || state=RESV_DEL_HOLD
  [ "$id" != 4001 ] || [ ! -f cancelled ] || state=CANCELLED
  case $* in
    *--me*) ;;
    *--format=%T*) [ "$id" != 4001 ] || echo $state ;;
    *'%i %T %k'*) echo "$id $state $comment" ;;
    *) echo "$id|$state|0:00|1:00:00||$comment|$folder|None" ;;
  esac
done < jobs`,
  );
  program("scancel", ": > cancelled");
  program("scontrol", ":");
}

function openBeamtime(id: string, more: object = {}): () => void {
  const corePath = join(top, "asap3/petra3/gpfs/p11/2026/data", id);
  const text = JSON.stringify({ beamtimeId: id, beamline: "p11", corePath, ...more });
  const folders = [corePath, join(top, "gpfs/current")];
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `beamtime-metadata-${id}.json`), text);
  }
  return () => rmSync(join(top, "gpfs/current"), { recursive: true });
}

it("a job is submitted again for its own session, whichever is open by then", async () => {
  fakeSlurm();
  const close = openBeamtime("11010000");
  const site = { gpfs: join(top, "gpfs"), core: join(top, "asap3") };
  const config = MentoConfig.parse({ site, worker: { reconcileSeconds: 1 } });
  const trigger = new Trigger(TriggerMethod.LOCAL_SBATCH_SCRIPT, { config });
  const job = await trigger.run(["/bin/echo", "ran"]);
  close();
  const end = await job.ended();
  expect(end).toMatchObject({ state: "completed", slurm: { jobId: "4002" }, session: { id: "11010000" } });
  await trigger.close();
});

it("a job's log is what it has written itself, also in a file that was there before", async () => {
  const logFile = join(top, "all.log");
  writeFileSync(logFile, "of yesterday\n");
  const site = { gpfs: join(top, "none"), core: join(top, "none"), localJobs: join(top, "local") };
  const trigger = new Trigger(TriggerMethod.LOCAL_BASH_SCRIPT, { config: MentoConfig.parse({ site }) });
  const logOf = async (id: string, text: string) => {
    let log = "";
    const job = await trigger.run(["/bin/echo", text], { logFile, id });
    for await (const piece of job.logs()) log += piece;
    return log;
  };
  expect(await logOf("1", "one")).toBe("one\n");
  expect(await logOf("2", "two")).toBe("two\n");
  const relative = relativeTo(process.cwd(), logFile);
  const plan = await trigger.plan(["/bin/true"], { logFile: relative });
  expect(plan.plan.logFile).toBe(logFile);
  // The job is there already, and so is what it has written.
  expect(await logOf("2", "two")).toBe("of yesterday\none\ntwo\n");
  await trigger.close();
});

it("a Slurm that does not answer on this host is one sentence", async () => {
  program("squeue", "echo 'squeue: error: no DNS' >&2; echo 'squeue: fatal: no configuration' >&2; exit 1");
  const close = openBeamtime("11010001", {
    onlineAnalysis: {
      reservedNodes: ["max-1"],
      slurmReservation: "11010001",
      slurmPartition: "ponline",
      sshPrivateKeyPath: "shared/id_rsa",
      userAccount: "bttest",
    },
  });
  const site = { gpfs: join(top, "gpfs"), core: join(top, "asap3") };
  const config = MentoConfig.parse({ site });
  const planning = new Trigger(TriggerMethod.LOCAL_SBATCH_SCRIPT, { config }).plan(["/bin/true"]);
  await expect(planning).rejects.toMatchObject({
    code: "slurm-unavailable",
    message: `Slurm on ${hostname()} does not say how its reservations stand: squeue: fatal: no configuration.`,
  });
  close();
});
