import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { Command, InvalidArgumentError } from "commander";
import type { Session } from "../beamtime/session.ts";
import { brokerCredentials, configFile, readConfig, type MentoConfig } from "../config/config.ts";
import { topologyFor } from "../broker/topology.ts";
import { checkBroker } from "../doctor/broker-check.ts";
import { checkPolicies } from "../doctor/broker-policies.ts";
import {
  Checklist,
  describeResult,
  failure,
  NOTHING_NEEDED,
  type CheckResult,
  type Finding,
} from "../doctor/checklist.ts";
import { checkSession } from "../doctor/session-checks.ts";
import { count } from "../doctor/words.ts";
import { MentoError } from "../errors.ts";
import { printJson, printLines } from "../text/terminal.ts";
import { countsJobs } from "../triggers/queue-position.ts";
import { CONFIG_OPTION } from "./open-config.ts";
import { openSessions, type OpenSessions } from "./open-sessions.ts";
import { signalStatus } from "./signal-status.ts";

interface DoctorOptions {
  config?: string;
  json?: true;
  session?: string;
  copyTimeout: number;
}

export function doctorCommand(): Command {
  return new Command("doctor")

    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line, one for each check")
    .option("--session <id>", "only this one; default: every session that is open")
    .option(
      "--copy-timeout <seconds>",
      "how long a test file may take from one file system to the other",
      wholeSeconds,
      60,
    )
    .action(doctor);
}

async function doctor(options: DoctorOptions): Promise<void> {
  const file = configFile(options.config, process.env, existsSync);
  const { config, warning } = readConfig(file, process.env);
  const credentials = brokerCredentials(config.broker);
  const stop = new AbortController();
  let idWidth = 0;
  const show = (result: CheckResult) => {
    if (options.json === true) printJson(result);
    // Each line but the first is indented: none that others have written looks like a check.
    else printLines(describeResult(result, idWidth).split("\n"));
  };
  const list = new Checklist(show, stop.signal);
  if (warning !== null) list.warn(warning);
  const open = openSessions(config, (text) => list.warn(text));
  let status = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    // The first one waits until the test files are removed.
    if (!stop.signal.aborted) {
      status = signalStatus(signal);
      stop.abort();
    } else {
      open.close();
      process.exit(signalStatus(signal));
    }
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    await list.check({ check: "configuration" }, NOTHING_NEEDED, () => describeConfiguration(file, config));
    const address = { url: config.broker.url, ...credentials, name: `mento doctor on ${hostname()}` };
    const broker = await list.check({ check: "broker" }, NOTHING_NEEDED, () => checkBroker(config, address));
    const { managementUrl, prefix } = config.broker;
    await list.check({ check: "broker policies" }, broker, () =>
      checkPolicies(
        { ...address, managementUrl },
        topologyFor(prefix, config.worker.group, hostname()),
        config.triggers.filter(countsJobs).map(({ name }) => name),
      ),
    );
    const { sessions, broken } = await findSessions(open, options.session);
    if (sessions.length > 1) idWidth = Math.max(...sessions.map(({ id }) => id.length));
    if (broken !== undefined) await list.check({ check: "metadata" }, NOTHING_NEEDED, () => failure(broken));
    const parts = {
      site: config.site,
      shells: open.shells,
      copyTimeoutSeconds: options.copyTimeout,
      stop: stop.signal,
    };
    if (sessions.length === 0) await checkSession(list, { blocker: "metadata" }, parts);
    for (const session of sessions) await checkSession(list, { value: session }, parts);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    process.exitCode = status;
    return;
  } finally {
    open.close();
  }
  const failed = list.results.filter(({ state }) => state === "failed").length;
  const summary = failed === 0 ? "no check failed" : `${count(failed, "check")} failed`;
  if (options.json !== true) printLines(["", summary]);
  if (failed > 0) process.exitCode = 1;
}

function describeConfiguration(file: string, { triggers }: MentoConfig): Finding<undefined> {
  const names = triggers.map(({ name }) => name).join(", ");
  const message = `${file} with ${count(triggers.length, "trigger")}${names === "" ? "" : `: ${names}`}`;
  if (triggers.length > 0) return { state: "ok", message, value: undefined };
  const hint = "Without one no message starts anything; docs/configuration.md shows some.";
  return { state: "warning", message, hint, value: undefined };
}

/** Whatever can be read; and why not, for the rest. */
async function findSessions(
  { sessions }: OpenSessions,
  id: string | undefined,
): Promise<{ sessions: Session[]; broken: unknown }> {
  try {
    if (id !== undefined) return { sessions: [await sessions.find(id)], broken: undefined };
    const { open, broken } = await sessions.open();
    if (open.length === 0 && broken === undefined) await sessions.find(undefined);
    return { sessions: open, broken };
  } catch (error) {
    if (error instanceof MentoError) return { sessions: [], broken: error };
    throw error;
  }
}

function wholeSeconds(text: string): number {
  const seconds = Number(text);
  if (Number.isInteger(seconds) && seconds > 0 && seconds <= 86_400) return seconds;
  throw new InvalidArgumentError("It must be a whole number of seconds.");
}
