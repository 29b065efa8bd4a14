import { execFile, execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import ssh2 from "ssh2";
import { connectBroker, publishDataReady, subscribe } from "mento";
import { jobIdFor } from "../dist/triggers/plan.js";
import { withFacility } from "./facility.mjs";
import { table } from "./figures.mjs";

/**
 * @typedef {import("./facility.mjs").Facility} Facility
 * @typedef {import("./facility.mjs").Beamtime} Beamtime
 * @typedef {import("mento").JobEventData} JobEventData
 */

const run = promisify(execFile);
const ROUNDS = 40;
const AT_ONCE = 8;
const ENDS = 20;

/**
 * From "the data is ready" to "Slurm has the job", three ways in turn in one run: Mento through the broker, a bare
 * ssh2 exec of the same sbatch on a warm connection, and an ssh connection for each trigger, as MENTO does. Then from
 * the program's end to the subscriber's `job.completed`.
 */
export async function runSubmitBench() {
  await withFacility([{ name: "bench", run: ["/bin/true", "{{ path }}"] }], async (bench) => {
    const { facility, beamtime, worker } = bench;
    const data = join(beamtime.corePath, "raw/data.dat");
    writeFileSync(data, "data");
    const sbatch = bareSbatch(beamtime);
    const slurm = { env: { ...process.env, SLURM_CONF: facility.slurm.conf } };
    const setPartition = (/** @type {string} */ state) =>
      execFileSync("scontrol", ["update", `partition=${beamtime.partition}`, `state=${state}`], slurm);

    const client = await connectBroker({ url: facility.broker.url });
    const eventOf = await listen(client);
    const warm = await connectSsh(facility, beamtime);
    /** @type {number[]} */
    let announced = [];
    let count = 0;
    const publish = () => {
      const id = `bench-${++count}`;
      return { id, sent: () => publishDataReady(client, { path: data, bytes: 4 }, { id, source: "/bench" }) };
    };
    const ways = {
      mento: async () => {
        const { id, sent } = publish();
        const accepted = worker.accepted(jobIdFor({ source: "/bench", id }, "default", "bench"));
        const submitted = eventOf("submitted", id).then(() => performance.now());
        const start = performance.now();
        await sent();
        announced.push((await submitted) - start);
        return (await accepted) - start;
      },
      bare: () => timed(() => exec(warm, sbatch)),
      perTrigger: () => timed(() => run("/usr/bin/ssh", sshArguments(facility, beamtime, sbatch))),
    };

    // No job starts meanwhile: the two cores are for the submits.
    setPartition("DOWN");
    await interleaved(ways, 5, 1);
    announced = [];
    const single = await interleaved(ways, ROUNDS, 1);
    const singleAnnounced = [...announced];
    const many = await interleaved({ mento: ways.mento, bare: ways.bare }, ROUNDS / 2, AT_ONCE);
    execFileSync("scancel", ["--partition", beamtime.partition], slurm);
    setPartition("UP");
    await sleep(3000);

    /** @type {number[]} */
    const ends = [];
    for (let index = 0; index < ENDS; index++) {
      const { id, sent } = publish();
      const completed = eventOf("completed", id);
      await sent();
      const { times } = await completed;
      ends.push(Date.now() - Date.parse(times.ended ?? ""));
    }
    warm.end();
    await client.close();

    console.log("\nReady (publish is called) → accepted by Slurm, in ms; ratios are of medians.");
    table([
      { what: "one at a time: Mento", values: single.mento, against: single.bare },
      { what: "one at a time: bare ssh2 exec of sbatch", values: single.bare },
      {
        what: "one at a time: an ssh connection a trigger",
        values: single.perTrigger,
        against: single.mento,
      },
      { what: `${AT_ONCE} at once: Mento`, values: many.mento, against: many.bare },
      { what: `${AT_ONCE} at once: bare ssh2 exec of sbatch`, values: many.bare },
    ]);
    console.log("\nWhat a subscriber sees, in ms.");
    table([
      { what: "publish → job.submitted", values: singleAnnounced },
      { what: "the program's end → job.completed", values: ends },
    ]);
  });
}

/**
 * The same submission that Mento makes, without its job directory.
 *
 * @param {Beamtime} beamtime
 */
function bareSbatch({ corePath, reservation, partition }) {
  const folder = join(corePath, "scratch_cc/bare");
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o777);
  writeFileSync(join(folder, "run.sh"), "#!/bin/sh\nexec /bin/true\n", { mode: 0o755 });
  return (
    `sbatch --parsable --job-name=bench --comment=bench --chdir=${folder} --output=${folder}/job.log ` +
    `--open-mode=append --reservation=${reservation} --partition=${partition} --time=01:00:00 ${folder}/run.sh`
  );
}

/**
 * @param {import("mento").BrokerClient} client
 * @returns {Promise<(state: string, causeId: string) => Promise<JobEventData>>}
 */
async function listen(client) {
  const { events } = await subscribe(client);
  /** @type {Map<string, (event: JobEventData) => void>} */
  const waiting = new Map();
  void (async () => {
    for await (const event of events) {
      const data = /** @type {JobEventData} */ (event.data);
      waiting.get(`${event.type} ${data.cause.id}`)?.(data);
    }
  })();
  return (state, causeId) =>
    new Promise((resolve) => waiting.set(`mento.job.${state}.v1 ${causeId}`, resolve));
}

/**
 * Each way in turn, round after round, so that a change of the machine's speed meets all alike.
 *
 * @template {string} Name
 * @param {Record<Name, () => Promise<number>>} ways
 * @param {number} rounds
 * @param {number} atOnce
 * @returns {Promise<Record<Name, number[]>>}
 */
async function interleaved(ways, rounds, atOnce) {
  const names = /** @type {Name[]} */ (Object.keys(ways));
  /** @type {Partial<Record<Name, number[]>>} */
  const results = {};
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const figures = await Promise.all(Array.from({ length: atOnce }, () => ways[name]()));
      results[name] = [...(results[name] ?? []), ...figures];
    }
  }
  return /** @type {Record<Name, number[]>} */ (results);
}

/** @param {() => Promise<unknown>} work */
async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/**
 * The options that MENTO 0.2 gives to ssh; and none of the user's own known hosts.
 *
 * @param {Facility} facility
 * @param {Beamtime} beamtime
 * @param {string} command
 */
function sshArguments({ ssh }, { account, privateKey }, command) {
  const options = [
    ...["BatchMode=yes", "CheckHostIP=no", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"],
    ...["GSSAPIAuthentication=no", "GSSAPIDelegateCredentials=no", "PasswordAuthentication=no"],
    ...["PubkeyAuthentication=yes", "PreferredAuthentications=publickey", "IdentitiesOnly=yes"],
    ...["ConnectTimeout=10", "LogLevel=ERROR"],
  ].flatMap((option) => ["-o", option]);
  return [...options, "-p", String(ssh.port), "-i", privateKey, "-l", account, ssh.address, command];
}

/**
 * @param {Facility} facility
 * @param {Beamtime} beamtime
 * @returns {Promise<import("ssh2").Client>}
 */
function connectSsh({ ssh }, { account, privateKey }) {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    client.on("ready", () => resolve(client)).on("error", reject);
    client.connect({
      host: ssh.address,
      port: ssh.port,
      username: account,
      privateKey: readFileSync(privateKey),
    });
    client.setNoDelay(true);
  });
}

/**
 * @param {import("ssh2").Client} client
 * @param {string} command
 */
function exec(client, command) {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error) {
        reject(error);
        return;
      }
      let output = "";
      channel.on("data", (/** @type {Buffer} */ chunk) => (output += chunk.toString()));
      channel.stderr.on("data", (/** @type {Buffer} */ chunk) => (output += chunk.toString()));
      channel.on("close", (/** @type {number} */ code) => {
        if (code === 0) resolve(output);
        else reject(new Error(`sbatch ended with ${code}: ${output}`));
      });
    });
  });
}
