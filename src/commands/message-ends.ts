import type { MentoConfig } from "../config/config.ts";
import { isTerminal } from "../jobs/job.ts";
import type { CloudEvent } from "../messages/cloud-event.ts";
import { JobEventData, MessageEventData, type JobState } from "../messages/job-event.ts";
import { readTriggerInput } from "../messages/trigger-input.ts";
import { matchTriggers } from "../triggers/match.ts";
import { jobIdFor } from "../triggers/plan.ts";

/**
 * What has become of a message, as its events tell: of the jobs that the configuration's triggers make of it, by now or
 * later, also of their ends; and of those that others make of it, once they are announced.
 */
export class MessageEnds {
  readonly #sent: CloudEvent;
  readonly #config: Pick<MentoConfig, "triggers" | "worker">;
  /** Names of triggers by the ids of their jobs: announced or not, they have not ended. */
  readonly #expected = new Map<string, string>();
  readonly #states = new Map<string, JobState>();
  #isSuperseded = false;
  #isRefused = false;

  constructor(sent: CloudEvent, config: Pick<MentoConfig, "triggers" | "worker">) {
    this.#sent = sent;
    this.#config = config;
    this.#expectJobsOf(sent);
  }

  /** Takes what was heard; false if it is of another message. */
  take(event: CloudEvent): boolean {
    const job = JobEventData.safeParse(event.data).data;
    const message = job === undefined ? MessageEventData.safeParse(event.data).data : undefined;
    const cause = job?.cause ?? message?.cause;
    if (cause?.id !== this.#sent.id || cause.source !== this.#sent.source) return false;
    if (job !== undefined) this.#takeJob(job, event);
    // How its jobs had ended is announced again, too.
    else if (message?.reason !== "already-run" && !event.type.startsWith("mento.message.deferred."))
      this.#takeRefusal(event);
    return true;
  }

  /** No job is known that has not ended, and something is. */
  get areAll(): boolean {
    if (this.#expected.size > 0 || [...this.#states.values()].some((state) => !isTerminal(state)))
      return false;
    return this.#states.size > 0 || this.#isSuperseded || this.#isRefused;
  }

  /** There were jobs, and all of them completed; a trigger for which the message was superseded has none. */
  get isGood(): boolean {
    const states = [...this.#states.values()];
    return !this.#isRefused && states.length > 0 && states.every((state) => state === "completed");
  }

  /** The triggers whose jobs have not ended. */
  get missing(): string[] {
    return [...new Set(this.#expected.values())];
  }

  #takeJob({ job: { id, trigger, state } }: JobEventData, event: CloudEvent): void {
    const before = this.#states.get(id);
    if (before !== undefined && isTerminal(before)) return;
    this.#states.set(id, state);
    if (!isTerminal(state)) {
      this.#expected.set(id, trigger);
      return;
    }
    this.#expected.delete(id);
    this.#expectJobsOf(event);
  }

  #takeRefusal({ id, source }: CloudEvent): void {
    const superseded = supersededJob(id);
    if (superseded !== undefined) {
      this.#expected.delete(superseded);
      this.#isSuperseded = true;
      return;
    }
    const isOurs = source === `/mento/${this.#config.worker.group}`;
    // Another group that does not want it keeps nobody of ours from it.
    if (id.endsWith("/ignored") && !isOurs && this.#expected.size > 0) return;
    this.#isRefused = true;
    if (!isOurs) return;
    // Which trigger has failed is not told, but what the others have submitted was announced before.
    for (const one of this.#expected.keys()) if (!this.#states.has(one)) this.#expected.delete(one);
  }

  #expectJobsOf(event: CloudEvent): void {
    const { triggers, worker } = this.#config;
    for (const { name } of matchTriggers(readTriggerInput(event), triggers).matched) {
      const id = jobIdFor(event, worker.group, name);
      if (!this.#states.has(id)) this.#expected.set(id, name);
    }
  }
}

/** `<message>/ignored/<job id>`: of one trigger's job alone; see messageEvent. */
function supersededJob(id: string): string | undefined {
  return /\/ignored\/([a-z2-7]+)$/.exec(id)?.[1];
}
