import { hostname } from "node:os";
import type { Sessions } from "../beamtime/session.ts";
import type { BrokerLink } from "../broker/connection.ts";
import { declareTopology, topologyFor, type Topology } from "../broker/topology.ts";
import type { MentoConfig } from "../config/config.ts";
import { Admission } from "../intake/admission.ts";
import type { Log } from "../log.ts";
import { Heartbeats } from "./heartbeat.ts";
import type { WorkerState } from "./worker-state.ts";
import { LocalShell } from "../shells/local.ts";
import { openSlurmRest } from "../slurm/rest/open-slurm-rest.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import type { SessionShells } from "../submission/session-shells.ts";
import { SubmitTargets } from "../submission/submit-targets.ts";
import { Observers } from "../tracking/observer.ts";
import { countsJobs } from "../triggers/queue-position.ts";
import type { Trigger } from "../triggers/trigger-config.ts";

const LIMITED =
  "RabbitMQ 4 gives up messages of these queues after 20 deliveries, since RabbitMQ 3 has made them: stop the workers, " +
  "empty and delete them, or set a policy with delivery-limit -1 (docs/operations.md)";

/** So old what is known of the open sessions may be. */
const ASK_EVERY_MS = 1_000;
/** Whose jobs are counted together that run here for no session. */
export const NO_SESSION = "no session";

/** Stands between a line and what it needs from outside: tests stop a worker at each of these steps. */
export type Between = <Deps extends object>(line: "message" | "job", deps: Deps) => Deps;

/** What a worker keeps from one link to the broker to the next, and both halves of the line share. */
export interface WorkerDeps {
  readonly config: MentoConfig;
  readonly topology: Topology;
  readonly sessions: Sessions;
  readonly shells: SessionShells;
  /** A shell on this host. */
  readonly here: LocalShell;
  readonly rest: SlurmRest | null;
  readonly targets: SubmitTargets;
  readonly observers: Observers;
  readonly admission: Admission;
  /** Of jobs that run on this host, which no node or Slurm keeps from running. */
  readonly admissionHere: Admission;
  readonly log: Log;
  readonly between: Between;
  readonly heartbeats: Heartbeats;
  /** Whether no other session is open. */
  readonly isOnlySession: (session: { id: string }) => Promise<boolean>;
  /** Declares what this worker uses on the broker. */
  readonly declare: (link: BrokerLink) => Promise<void>;
  /** A job of a trigger with a concurrency limit has ended: messages in its queue may go on. */
  wakeTriggerQueues: () => void;
}

export function workerDeps(
  config: MentoConfig,
  sessions: Sessions,
  shells: SessionShells,
  log: Log,
  between: Between,
  stateOf: () => WorkerState,
): WorkerDeps {
  const { site, worker, broker } = config;
  const here = new LocalShell(config.ssh.commandTimeoutMs);
  const rest = openSlurmRest(config.slurmRest);
  const targets = new SubmitTargets(site, shells, { here, rest, maxPending: worker.maxPending });
  const topology = topologyFor(broker.prefix, worker.group, hostname());
  let asked: { at: number; answer: ReturnType<Sessions["open"]> } | undefined;
  // Each message of a flood asks: the files are read once a second.
  const openNow = () => {
    if (asked === undefined || Date.now() - asked.at > ASK_EVERY_MS)
      asked = { at: Date.now(), answer: sessions.open() };
    return asked.answer;
  };
  const isOnlySession = async ({ id }: { id: string }) => {
    const [first, second] = (await openNow()).open;
    return first?.id === id && second === undefined;
  };
  // Jobs here may be of none.
  const isOnlyHere = async ({ id }: { id: string }) =>
    id === NO_SESSION ? (await openNow()).open.length === 0 : isOnlySession({ id });
  const limits = { concurrency: worker.concurrency, maxSubmitRate: worker.maxSubmitRate };
  const admission = new Admission({
    ...limits,
    isOnlySession,
    // Its nodes and key may be others by now, or it may be closed.
    probe: async ({ id }) => targets.probe(await sessions.find(id)),
    log,
  });
  return {
    ...{ config, topology, sessions, shells, here, rest, targets, admission, log, between, isOnlySession },
    admissionHere: new Admission({
      ...limits,
      isOnlySession: isOnlyHere,
      probe: () => Promise.resolve(),
      log,
    }),
    observers: new Observers(here, sessions, shells, rest, site),
    heartbeats: new Heartbeats(config, stateOf),
    declare: declaring(config, topology, log),
    wakeTriggerQueues: () => undefined,
  };
}

/** The events that triggers of this configuration start on, of whichever group's jobs. */
function eventKeysOf(triggers: readonly Trigger[]): string[] {
  const types = triggers.flatMap(({ on }) => on.type);
  return [...new Set(types)].filter((type) => type !== "data.ready").map((type) => `*.*.${type}`);
}

function declaring({ worker, triggers }: MentoConfig, topology: Topology, log: Log) {
  // Each link says the same of them.
  let hasSaidLimited = false;
  return async (link: BrokerLink) => {
    const { limited } = await declareTopology(link, topology, {
      keys: worker.keys,
      eventKeys: eventKeysOf(triggers),
      isWorker: true,
      triggers: triggers.filter(countsJobs).map(({ name }) => name),
    });
    if (limited.length > 0 && !hasSaidLimited) log.warn({ queues: limited }, LIMITED);
    hasSaidLimited = limited.length > 0;
  };
}
