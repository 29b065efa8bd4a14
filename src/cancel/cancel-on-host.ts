import { randomUUID } from "node:crypto";
import * as z from "zod";
import type { BrokerLink } from "../broker/connection.ts";
import type { Publisher } from "../broker/publisher.ts";
import { cancelAt } from "./cancel-at.ts";
import { failed, unknown } from "./cancel-outcomes.ts";
import { MentoError, Unavailable } from "../errors.ts";
import { CancelRequest } from "../jobs/cancel-request.ts";
import { describeIssues } from "../messages/check-form.ts";
import { CancelOutcome, JobName, JOB_CANCEL_TYPE } from "../messages/job-cancel.ts";
import { parsePlainJson, tryPlainJson } from "../messages/json.ts";
import type { Shell } from "../shells/shell.ts";

/**
 * A process of another host can be cancelled by that host's worker alone. The request goes to the queue that holds its
 * tracking records: it waits there while the worker is away. Who may publish to queues by their names can do anything
 * to Mento's, so here nobody is asked who he is.
 */
const HostRequest = z.strictObject({ job: JobName, request: CancelRequest });

/** So long a worker that is there may take. */
const ANSWER_MS = 15_000;

/** @throws Unavailable `worker-silent` */
export async function askHost(
  { link, publisher, queue }: { link: BrokerLink; publisher: Publisher; queue: string },
  job: string,
  request: CancelRequest,
): Promise<CancelOutcome> {
  const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
  channel.on("error", () => undefined);
  try {
    const declared = await link.answer(
      channel.assertQueue("", { exclusive: true, autoDelete: true }),
      "declaring a queue for an answer",
    );
    let take: (content: Buffer | undefined) => void = () => undefined;
    const answer = new Promise<Buffer | undefined>((resolve) => (take = resolve));
    const consuming = channel.consume(declared.queue, (message) => take(message?.content), { noAck: true });
    await link.answer(consuming, "awaiting an answer");
    const body = Buffer.from(JSON.stringify({ job, request } satisfies z.infer<typeof HostRequest>));
    const properties = { messageId: randomUUID(), type: JOB_CANCEL_TYPE, replyTo: declared.queue };
    await publisher.publish({ exchange: "", routingKey: queue, body, properties });
    const timer = setTimeout(() => take(undefined), ANSWER_MS);
    void link.lost.then(() => take(undefined));
    const content = await answer;
    clearTimeout(timer);
    const outcome = CancelOutcome.safeParse(content && tryPlainJson(content.toString("utf8")));
    if (outcome.success) return outcome.data;
    throw silent(queue, "has not answered yet", "It is cancelled when that worker is back; ask again then.");
  } catch (error) {
    if (!(error instanceof MentoError) || error.code !== "nobody-listens") throw error;
    throw silent(
      queue,
      "is not there",
      "No worker of that host has ever run; end the process by hand.",
      error,
    );
  } finally {
    await channel.close().catch(() => undefined);
  }
}

function silent(queue: string, what: string, hint: string, cause?: unknown): Unavailable {
  return new Unavailable({
    code: "worker-silent",
    message: `The job can be cancelled by its host's worker alone, and whoever reads ${queue} ${what}.`,
    hint,
    cause,
  });
}

function readRequest(content: Buffer): z.infer<typeof HostRequest> {
  const written: unknown = parsePlainJson(content.toString("utf8"));
  const parsed = HostRequest.safeParse(written);
  if (parsed.success) return parsed.data;
  throw new Error(`a request to cancel a job does not fit: ${describeIssues(parsed.error, written)}`);
}

/** On the host: does what is asked, and answers. */
export async function cancelHere(
  message: { content: Buffer; properties: { replyTo?: unknown } },
  { here, jobsDirectory, publisher }: { here: Shell; jobsDirectory: string; publisher: Publisher },
): Promise<void> {
  const { job, request } = readRequest(message.content);
  const methods = ["local-bash-script"] as const;
  const shellOn = (host: string) => Promise.resolve(host === here.host ? here : undefined);
  const target = { jobsDirectory, shell: here, methods, shellOn };
  const outcomes = await cancelAt(target, [job], request).catch(
    (error: unknown) => [[job, failed(job, error)]] as const,
  );
  const outcome =
    new Map(outcomes).get(job) ??
    unknown(
      job,
      `Host ${here.host} has no job ${job}: not in ${jobsDirectory}.`,
      "Its directory was removed.",
    );
  const { replyTo } = message.properties;
  if (typeof replyTo !== "string" || replyTo === "") return;
  const body = Buffer.from(JSON.stringify(outcome));
  await publisher
    .publish({ exchange: "", routingKey: replyTo, body, properties: { messageId: randomUUID() } })
    .catch((error: unknown) => {
      // Whoever asked waits no more.
      if (!(error instanceof MentoError) || error.code !== "nobody-listens") throw error;
    });
}
