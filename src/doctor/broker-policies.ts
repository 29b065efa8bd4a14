import type { BrokerAddress } from "../broker/connection.ts";
import type { Topology } from "../broker/topology.ts";
import { BUSY_WAIT_SECONDS } from "../broker/topology.ts";
import { readBrokerUrl } from "../broker/url.ts";
import { errorText } from "../errors.ts";
import type { Finding } from "./checklist.ts";
import { duration } from "./words.ts";

const TIMEOUT_MS = 5_000;
/** Workers hold no message for longer. */
const HELD_SECONDS = 15 * 60;

/** What lies in a queue, which decides what a policy on it costs. */
export type QueueUse = "messages" | "triggerQueues" | "jobs" | "waits" | "dead" | "returned" | "history";

export type PolicyDefinition = Record<string, unknown>;

/**
 * What a policy's settings cost, where they change what Mento relies on. What Mento's own arguments overrule costs nothing:
 * where dead letters go, what a full queue does.
 */
export function costsOf(use: QueueUse, definition: PolicyDefinition): string[] {
  const number = (key: string) => {
    const value = definition[key];
    return typeof value === "number" ? value : undefined;
  };
  const costs: string[] = [];
  const limit = number("delivery-limit");
  if (limit !== undefined && limit >= 0 && limit < (LEAST_LIMIT[use] ?? 0)) {
    costs.push(`delivery-limit ${limit}: ${LIMIT_COSTS[use] ?? ""}`);
  }
  const ttl = number("message-ttl");
  if (ttl !== undefined) costs.push(`message-ttl ${duration(ttl / 1000)}: ${TTL_COSTS[use]}`);
  const expires = number("expires");
  if (expires !== undefined) {
    costs.push(
      `expires ${duration(expires / 1000)}: it is deleted with all in it when nobody uses it for so long`,
    );
  }
  for (const key of ["max-length", "max-length-bytes", "max-age"]) {
    const value = definition[key];
    if (typeof value !== "number" && typeof value !== "string") continue;
    if (use === "history") costs.push(`${key} ${value}: ${HISTORY_COST}`);
    else if (key !== "max-age") costs.push(`${key} ${value}: ${FULL_COST}`);
  }
  const held = number("consumer-timeout");
  if (
    held !== undefined &&
    held < HELD_SECONDS * 1000 &&
    ["messages", "triggerQueues", "jobs"].includes(use)
  ) {
    costs.push(
      `consumer-timeout ${duration(held / 1000)}: a worker holds messages for ${duration(HELD_SECONDS)}, and loses its connection for it`,
    );
  }
  return costs;
}

/** Below this many deliveries it costs something; where it is missing a policy's limit is harmless. */
const LEAST_LIMIT: Partial<Record<QueueUse, number>> = { messages: 4, triggerQueues: 4, jobs: 2 };

const LIMIT_COSTS: Partial<Record<QueueUse, string>> = {
  messages: "a message that so many workers lost while they had it becomes a dead letter, unrun",
  triggerQueues: "a message that so many workers lost while they had it goes back to the intake queue",
  jobs: "a job's record that so many workers lost becomes a dead letter, and its end is not announced",
};

const TTL_COSTS: Record<QueueUse, string> = {
  messages: "a message that waits for longer, as when no worker runs, becomes a dead letter, unrun",
  triggerQueues:
    "a message that waits for its turn for longer goes back to the intake queue, and behind the others",
  jobs: "of a job whose record waits for longer, as when no worker runs, the end is not announced",
  waits: "messages come back after that time if it is shorter than the queue's own",
  dead: "a dead letter is gone after twice that time",
  returned: "a dead letter that was read often is gone after that time",
  history: "streams have none",
};

const HISTORY_COST =
  "a slow subscriber misses what was removed (it is told: events-missed), and so do replay and cancel";
const FULL_COST = "when it is full RabbitMQ refuses what is published to it: messages and jobs wait";

/** Which of its queues have which use. */
function usesOf(topology: Topology, triggers: readonly string[]): [string, QueueUse][] {
  return [
    [topology.intakeQueue, "messages"],
    [topology.jobsQueue, "jobs"],
    [topology.hostJobsQueue, "jobs"],
    ...BUSY_WAIT_SECONDS.map((seconds): [string, QueueUse] => [topology.waitQueue(seconds), "waits"]),
    ...triggers.map((trigger): [string, QueueUse] => [topology.triggerQueue(trigger), "triggerQueues"]),
    [topology.deadQueue, "dead"],
    [topology.returnedQueue, "returned"],
    [topology.historyStream, "history"],
  ];
}

/** Policies of the broker's operators that change Mento's queues, as RabbitMQ's management says. */
export async function checkPolicies(
  address: BrokerAddress & { managementUrl?: string | undefined },
  topology: Topology,
  triggers: readonly string[],
): Promise<Finding<undefined>> {
  const first = typeof address.url === "string" ? address.url : (address.url[0] ?? "");
  const read = readBrokerUrl(first);
  const usual = first.startsWith("amqps:") ? `https://${read.host}:15671` : `http://${read.host}:15672`;
  const management = (address.managementUrl ?? usual).replace(/\/$/, "");
  const user = address.username ?? read.username ?? "guest";
  const password = address.password ?? read.password ?? "guest";
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  const lines: string[] = [];
  const uses = usesOf(topology, triggers);
  for (const [queue, use] of uses) {
    const path = ["queues", read.virtualHost ?? "/", queue].map(encodeURIComponent).join("/");
    let answer: unknown;
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch(`${management}/api/${path}`, { headers: { authorization }, signal });
      if (response.status === 404) continue;
      if (!response.ok) return unseen(management, `it says ${response.status} to ${user}`);
      answer = await response.json();
    } catch (error) {
      return unseen(management, errorText(error));
    }
    const { policy, operator_policy: operators, effective_policy_definition: definition } = partsOf(answer);
    const names = [policy, operators].filter((one) => typeof one === "string" && one !== "");
    const costs = costsOf(use, partsOf(definition));
    if (costs.length > 0) lines.push(`${queue} (policy ${names.join(", ")}): ${costs.join("; ")}`);
  }
  if (lines.length === 0) {
    return {
      state: "ok",
      message: `no policy changes what Mento's queues do (${management})`,
      value: undefined,
    };
  }
  const hint =
    "`rabbitmqctl list_policies` and `list_operator_policies` show them: leave Mento's names out of their patterns.";
  return { state: "warning", message: lines.join("\n"), hint, value: undefined };
}

function unseen(management: string, why: string): Finding<never> {
  const message =
    `not checked, because RabbitMQ's management at ${management} does not answer this login: ${why}. ` +
    "Policies on Mento's queues can remove messages and events: `rabbitmqctl list_policies` shows them";
  return { state: "skipped", message };
}

function partsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}
