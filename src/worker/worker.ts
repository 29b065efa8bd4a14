import { hostname } from "node:os";
import { requireOnline, Sessions, type OnlineSession } from "../beamtime/session.ts";
import { brokerCredentials, type MentoConfig } from "../config/config.ts";
import { Deferred, Unavailable, errorText } from "../errors.ts";
import type { Log } from "../log.ts";
import { RuntimeDirectory } from "../shells/runtime-directory.ts";
import { SessionShells } from "../submission/session-shells.ts";
import { cleanUp } from "./clean-up.ts";
import { openMessages } from "./open-messages.ts";
import { openTracking } from "./open-tracking.ts";
import { WorkerLine } from "./worker-line.ts";
import { workerDeps, type Between, type WorkerDeps } from "./worker-deps.ts";
import { WorkerStatus } from "./worker-state.ts";

const SWEEP_EVERY_MS = 30_000;
/** What a node does not do in this time at the start, it may do later: other sessions do not wait for it. */
const CHECK_MS = 5_000;
/** Directories of jobs that ended long ago are looked for so often. */
const CLEAN_UP_EVERY_MS = 3600_000;

/**
 * A worker: takes messages, submits jobs, watches them. Built from its configuration, run until `stop` aborts; its
 * states are those of {@link WorkerStatus}.
 *
 * @throws Unavailable `broker-unreachable`, `broker-refused`, `ssh-unreachable` when it cannot start
 * @throws Misconfigured `queue-arguments-differ`, `wrong-configuration`
 */
export async function runWorker(
  config: MentoConfig,
  log: Log,
  stop: AbortSignal,
  between: Between = (_, deps) => deps,
): Promise<void> {
  const { readyFile, group, roles } = config.worker;
  const about = { group, triggers: config.triggers.length };
  const status = new WorkerStatus(roles.length, readyFile, about, log);
  const sessions = new Sessions(config.site, (message) => log.warn(message));
  const runtime = new RuntimeDirectory();
  const shells = new SessionShells(config.ssh, runtime, log);
  const parts = workerDeps(config, sessions, shells, log, between, () => status.state);
  const lines = linesOf(parts, status);
  const clean = () => void cleanUp(config, parts, log);
  const sweeping = setInterval(() => {
    shells.sweep(sessions).catch((error: unknown) => log.warn({ err: error }, errorText(error)));
  }, SWEEP_EVERY_MS);
  const cleaningUp = setInterval(clean, CLEAN_UP_EVERY_MS);
  stop.addEventListener("abort", () => status.stopping(), { once: true });
  try {
    await allOf(stop, lines, (line, end) => line.connect(end));
    if (!stop.aborted) {
      await checkNode(sessions, shells, log);
      clean();
      await allOf(stop, lines, (line, end) => line.serve(end));
    }
  } finally {
    clearInterval(sweeping);
    clearInterval(cleaningUp);
    parts.admission.stop();
    parts.admissionHere.stop();
    await Promise.all(lines.map((line) => line.close()));
    shells.close();
    parts.here.close();
    runtime.remove();
    status.stopped();
  }
}

/** A line for each role. */
function linesOf(parts: WorkerDeps, status: WorkerStatus): WorkerLine[] {
  const { broker, worker } = parts.config;
  return worker.roles.map((role) => {
    const [what, open] =
      role === "tracker" ? (["jobs", openTracking] as const) : (["messages", openMessages] as const);
    return new WorkerLine({
      address: {
        url: broker.url,
        ...brokerCredentials(broker),
        name: `mento worker ${worker.group} on ${hostname()} ${what}`,
      },
      open: (link, care, confirmed) => open(parts, link, care, confirmed),
      ready: () => status.lineIsReady(),
      graceSeconds: worker.shutdownGraceSeconds,
      log: parts.log,
    });
  });
}

/** Does it with all of them; where one fails, the others are ended. */
async function allOf<T>(
  stop: AbortSignal,
  all: readonly T[],
  work: (one: T, end: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const end = AbortSignal.any([stop, failed.signal]);
  const results = await Promise.allSettled(
    all.map((one) =>
      work(one, end).catch((error: unknown) => {
        failed.abort();
        throw error;
      }),
    ),
  );
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

/**
 * If a beamtime is open, its node must answer before work begins: a wrong address or host key shows at once, and not
 * with the first message of the night. Without an open beamtime there is nothing to check yet.
 */
async function checkNode(sessions: Sessions, shells: SessionShells, log: Log): Promise<void> {
  let session: OnlineSession;
  try {
    session = requireOnline(await sessions.find(undefined));
  } catch (error) {
    log.info(errorText(error));
    return;
  }
  try {
    const shell = await shells.open(session);
    await shell.run("true", { timeout: CHECK_MS });
    log.info({ session: session.id, node: shell.host, account: shell.account }, "the reserved node answers");
  } catch (error) {
    // What the start files of an account do that is let in is its own affair: others are served.
    const isItsOwn = error instanceof Unavailable && error.code === "ssh-lost";
    if (!(error instanceof Deferred || isItsOwn)) throw error;
    log.warn({ code: error.code, hint: error.hint }, error.message);
  }
}
