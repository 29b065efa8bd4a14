import { randomUUID } from "node:crypto";
import { openLink, type BrokerAddress, type BrokerLink } from "../broker/connection.ts";
import { brokerTime } from "../broker/broker-time.ts";
import { declareTopology, readTopology, topologyFor } from "../broker/topology.ts";
import type { MentoConfig } from "../config/config.ts";
import { countsJobs } from "../triggers/queue-position.ts";
import type { Finding } from "./checklist.ts";
import { differenceOf, WARN_SECONDS } from "./node-checks.ts";
import { count } from "./words.ts";

/**
 * What a worker does at its start: log in and declare the exchanges and queues, which changes nothing where they are.
 */
export async function checkBroker(
  { broker, worker, triggers }: Pick<MentoConfig, "broker" | "worker" | "triggers">,
  address: BrokerAddress,
): Promise<Finding<undefined>> {
  const topology = topologyFor(broker.prefix, worker.group);
  const link = await openLink(address);
  try {
    const counted = triggers.filter(countsJobs).map(({ name }) => name);
    const { missing, intake, dead, triggerQueues } = await readTopology(link, topology, counted);
    const { limited } = await declareTopology(link, topology, { keys: worker.keys });
    const blocked = await whyBlocked(link);
    if (blocked !== undefined)
      return {
        state: "failed",
        message: `RabbitMQ at ${link.place} takes no messages (${blocked}): nothing is processed, and nobody can publish`,
        hint: "Free memory or disk on its host; `rabbitmqctl status` there says how much it wants.",
      };
    const clock = await brokerTime(link, `${broker.prefix}.doctor.${randomUUID()}`);
    const { product, version } = link.consuming.connection.serverProperties;
    const facts = [
      `${product} ${version} at ${link.place}`,
      whatWasMade(missing, topology.intakeQueue, worker.group),
      `${count(intake?.waiting ?? 0, "message")} waiting in ${topology.intakeQueue}, ${count(intake?.consumers ?? 0, "worker")} on it`,
      `${count(dead, "dead letter")} in ${topology.deadQueue}`,
      ...triggerQueues.map(
        ({ trigger, waiting }) => `${count(waiting, "message")} waiting for a turn with trigger ${trigger}`,
      ),
      ...(clock === undefined ? [] : [`its clock is ${differenceOf(clock.ahead)}`]),
    ];
    const message = facts.join("; ");
    if (intake !== undefined && intake.consumers === 0 && intake.waiting > 0) {
      return {
        state: "failed",
        message: `${message}\nNo worker of group ${worker.group} takes messages, and ${count(intake.waiting, "message")} of it wait`,
        hint: "Start one: `mento worker`.",
      };
    }
    if (limited.length > 0) {
      return {
        state: "warning",
        message: `${message}\nRabbitMQ gives up what has come back 20 times in ${limited.join(", ")}: RabbitMQ 3 has made them`,
        hint: "Stop the workers, wait until they are empty, and delete them; or set a policy with delivery-limit -1 on them.",
        value: undefined,
      };
    }
    if (clock === undefined || Math.abs(clock.ahead) <= WARN_SECONDS)
      return { state: "ok", message, value: undefined };
    const hint =
      "`--since` and `since` count by the broker's clock: have the time service (chrony, NTP) of both looked at.";
    return { state: "warning", message, hint, value: undefined };
  } finally {
    await link.close();
  }
}

/** RabbitMQ says so to whoever publishes, and answers nothing more on that connection; else it answers at once. */
async function whyBlocked(link: BrokerLink): Promise<string | undefined> {
  const channel = await link.answer(link.publishing.createChannel(), "opening a channel");
  // A login that may not publish so is told that where it matters.
  channel.on("error", () => undefined);
  channel.publish("", randomUUID(), Buffer.alloc(0));
  const answer = link.answer(channel.prefetch(1), "answering on the connection to publish");
  const isAnswered = answer.then(
    () => undefined,
    () => undefined,
  );
  return Promise.race([link.whenBlocked(), isAnswered]);
}

function whatWasMade(missing: readonly string[], intakeQueue: string, group: string): string {
  if (missing.length === 0) return `exchanges and queues of group ${group} are there`;
  if (missing.includes(intakeQueue)) {
    return `no worker of group ${group} had run there: its exchanges and queues are made now`;
  }
  return `made now: ${missing.join(", ")}`;
}
