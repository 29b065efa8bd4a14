import { lastLines } from "../shells/answer-lines.ts";
import { parseSlurmNow, SLURM_NOW_COMMAND, type SlurmNow } from "../slurm/slurm-now.ts";
import type { ReservationNow } from "../beamtime/reservation.ts";
import { TIMED_OUT } from "../shells/bounded-file.ts";
import { FOR_A_WHILE, SQUEUE } from "../slurm/squeue.ts";
import { quote, quoteAll } from "../shells/quote.ts";
import type { CommandEnd, Shell } from "../shells/shell.ts";
import type { Finding } from "./checklist.ts";
import { count, duration, isoTime, localTime } from "./words.ts";

const PROGRAMS = ["sbatch", "squeue", "scontrol", "sinfo", "scancel"];

/** Below so many seconds, jobs of the usual length no longer fit into a reservation. */
const SHORT_SECONDS = 600;

/** A node that works, and what Slurm says there. */
export interface NodeWithSlurm {
  shell: Shell;
  now: SlurmNow;
}

/** Slurm's programs on the node, its controller, and what it says of nodes and reservations. */
export async function checkSlurm(shell: Shell): Promise<Finding<NodeWithSlurm>> {
  const { host, account } = shell;
  const missing = await shell.run(
    `for p in ${quoteAll(PROGRAMS)}; do command -v "$p" > /dev/null || echo "$p"; done`,
  );
  const absent = text(missing.stdout).split("\n").join(", ");
  if (absent !== "") {
    const hint = "Is Slurm's client installed there, and in the PATH of a login without a terminal?";
    return { state: "failed", message: `${host} has no ${absent} for ${account}.`, hint };
  }
  const version = text((await shell.run(`${FOR_A_WHILE} sbatch --version`)).stdout);
  const ping = await shell.run(`${FOR_A_WHILE} scontrol ping`);
  const controller = text(ping.stdout) || said(ping);
  if (!/ is UP/.test(controller)) return noAnswer(`${version} on ${host}: ${controller}`);
  const queue = await shell.run(`${SQUEUE} --noheader --user=${quote(account)} --format=%A`);
  if (queue.code !== 0) return noAnswer(`squeue on ${host}: ${said(queue)}`);
  const asked = await shell.run(SLURM_NOW_COMMAND);
  const now = asked.code === 0 ? parseSlurmNow(text(asked.stdout)) : undefined;
  if (now === undefined) return noAnswer(`squeue, scontrol and sinfo on ${host}: ${said(asked)}`);
  const jobs = text(queue.stdout)
    .split("\n")
    .filter((line) => /^\d+$/.test(line)).length;
  const message = `${version} on ${host}; the controller is up, with ${count(jobs, "job")} of ${account}`;
  return { state: "ok", message, value: { shell, now } };
}

function noAnswer(message: string): Finding<never> {
  const hint = "Jobs wait until it answers; ask whoever runs Slurm.";
  return { state: "failed", message, hint, code: "slurm-unavailable" };
}

/** Whether a job of this account would be taken now: Slurm itself says so, without running one. */
export async function checkReservation(
  one: ReservationNow,
  now: SlurmNow,
  shell: Shell,
): Promise<Finding<undefined>> {
  const { name, slurm } = one;
  const nodes = (slurm?.nodes ?? one.nodes).flatMap((node) => now.nodes.get(node) ?? []);
  const idle = nodes.filter(({ isIdle }) => isIdle).length;
  const down = nodes.filter(({ isUp }) => !isUp).map((node) => node.name);
  if (name !== null && slurm === undefined) return noSuchReservation(name);
  if (slurm !== undefined && slurm.start > now.at) {
    const start = isoTime(slurm.start);
    const message = `begins only in ${duration(slurm.start - now.at)}${start === null ? "" : `, at ${localTime(start)}`}`;
    return { state: "failed", message, hint: "Messages wait until then.", code: "no-reservation-fits" };
  }
  const left = slurm === undefined ? Infinity : slurm.end - now.at;
  const end = slurm === undefined ? null : isoTime(slurm.end);
  const ends =
    end === null ? "an end that Slurm does not say" : `${duration(left)} left, until ${localTime(end)}`;
  const until = slurm === undefined ? "no reservation" : ends;
  const partition = slurm?.partition ?? one.partition;
  const test = await shell.run(testCommand(name, partition));
  if (TIMED_OUT.includes(test.code)) return noAnswer(`sbatch on ${shell.host}: ${said(test)}`);
  const last = lastLines(test.stderr).at(-1) ?? "";
  if (test.code !== 0) {
    const users = slurm === undefined ? "" : ` It is for ${usersOf(slurm.users)}.`;
    return {
      state: "failed",
      message: `${until}; but Slurm takes no job of ${shell.account} in ${partition === null ? "its default partition" : `partition ${partition}`}: ${last}`,
      hint: `\`scontrol show reservation\` says whom and what it is for.${users}`,
      code: "no-reservation-fits",
    };
  }
  const start = / to start at (\S+) .* on nodes (\S+)/.exec(last);
  const facts = [
    until,
    `partition ${partition}`,
    `${idle} of ${nodes.length} nodes idle`,
    ...(start === null ? [] : [`a job could start at ${start[1]?.slice(11) ?? ""} on ${start[2] ?? ""}`]),
  ];
  const message = facts.join("; ");
  if (left < SHORT_SECONDS) {
    return {
      state: "warning",
      message,
      hint: "Longer jobs do not fit any more; have it prolonged.",
      value: undefined,
    };
  }
  if (down.length > 0) {
    return {
      state: "warning",
      message,
      hint: `Down are ${down.join(", ")}; ask whoever runs Slurm.`,
      value: undefined,
    };
  }
  return { state: "ok", message, value: undefined };
}

function testCommand(reservation: string | null, partition: string | null): string {
  const options = [
    "--test-only",
    ...(reservation === null ? [] : [`--reservation=${reservation}`]),
    ...(partition === null ? [] : [`--partition=${partition}`]),
    "--time=00:01:00",
    "--output=/dev/null",
    "--wrap=true",
  ];
  return `${FOR_A_WHILE} sbatch ${quoteAll(options)}`;
}

function noSuchReservation(name: string): Finding<never> {
  return {
    state: "failed",
    message: `Slurm has no reservation ${name}.`,
    hint: "It has ended or was deleted. Have the beamtime started again, or its metadata file corrected.",
    code: "no-reservation-fits",
  };
}

function said({ stderr }: CommandEnd): string {
  return stderr.trim() || "no answer";
}

function text(bytes: Buffer): string {
  return bytes.toString("utf8").trim();
}

function usersOf(users: readonly string[]): string {
  const denied = users.filter((user) => user.startsWith("-")).map((user) => user.slice(1));
  if (denied.length > 0) return `all accounts but ${denied.join(", ")}`;
  return users.join(", ") || "no account by name";
}
