import * as z from "zod";
import { MentoConfig } from "./config-schema.ts";
import { CloudEvent } from "../messages/cloud-event.ts";
import { DATA_READY_TYPE, DataReady } from "../messages/data-ready.ts";
import { CANCEL_ANSWER_TYPE, CancelAnswer, JOB_CANCEL_TYPE, JobCancel } from "../messages/job-cancel.ts";
import { JobEventData, JobState, MessageEventData } from "../messages/job-event.ts";

const BASE = "https://mento.example/schemas/";

/** File name → JSON Schema (draft 2020-12) or AsyncAPI document, as checked in under `schemas/`. */
export function generateSchemas(): Record<string, unknown> {
  const schemas = {
    "cloud-event.json": describe(CloudEvent, "A CloudEvent 1.0, the envelope of every message."),
    "data-ready.json": describe(DataReady, `data of ${DATA_READY_TYPE}: a detector has written files.`),
    "job-cancel.json": describe(JobCancel, `data of ${JOB_CANCEL_TYPE}: jobs are to be cancelled.`),
    "cancel-answer.json": describe(
      CancelAnswer,
      `What is answered to a ${JOB_CANCEL_TYPE} with reply_to; its type is ${CANCEL_ANSWER_TYPE}.`,
    ),
    "job-event.json": describe(JobEventData, "data of every mento.job.*.v1 event."),
    "message-event.json": describe(
      MessageEventData,
      "data of mento.message.rejected.v1, .deferred.v1 and .ignored.v1.",
    ),
  };
  const files: Record<string, unknown> = { "asyncapi.json": asyncApi(), "mento-config.json": ofConfig() };
  for (const [file, { json, description }] of Object.entries(schemas)) {
    files[file] = { ...json, $id: BASE + file, title: file.replace(".json", ""), description };
  }
  return files;
}

/** Draft 7: yaml-language-server, which most editors use, reads nothing newer. */
function ofConfig(): object {
  const json = z.toJSONSchema(MentoConfig, { io: "input", target: "draft-7" });
  const description = "mento.yaml, the configuration of Mento. `mento validate` checks more than its form.";
  return { ...json, $id: `${BASE}mento-config.json`, title: "mento.yaml", description };
}

function describe(schema: z.ZodType, description: string): { json: object; description: string } {
  const json = z.toJSONSchema(schema, { io: "input", target: "draft-2020-12" });
  return { json, description };
}

/** AsyncAPI 3 (https://www.asyncapi.com/docs/reference/specification/v3.0.0): who publishes what where. */
function asyncApi(): unknown {
  const jobTypes = JobState.options.map((state) => `mento.job.${state}.v1`);
  const messageTypes = ["rejected", "deferred", "ignored"].map((outcome) => `mento.message.${outcome}.v1`);
  const message = (type: string, dataSchema: string) => ({
    name: type,
    contentType: "application/cloudevents+json",
    payload: {
      allOf: [
        { $ref: "./cloud-event.json" },
        {
          type: "object",
          required: ["data"],
          properties: { type: { const: type }, data: { $ref: dataSchema } },
        },
      ],
    },
  });
  const messages = (types: string[], dataSchema: string) =>
    Object.fromEntries(types.map((type) => [type, message(type, dataSchema)]));
  const exchange = (name: string) => ({
    amqp: { is: "routingKey", exchange: { name, type: "topic", durable: true, autoDelete: false } },
  });
  const parameters = {
    beamline: { description: "The beamline, a dot written as a dash; - if unknown." },
    session: { description: "The beamtime's or commissioning run's id; - if unknown." },
  };
  return {
    asyncapi: "3.0.0",
    info: {
      title: "Mento",
      version: "1",
      description: 'Turns "data ready" messages into analysis jobs: RabbitMQ in, Slurm jobs, events out.',
    },
    defaultContentType: "application/cloudevents+json",
    channels: {
      data: {
        address: "{beamline}.{session}.data.ready",
        description: "Detectors and acquisition systems publish here. The prefix `mento` can be configured.",
        parameters,
        bindings: exchange("mento.data"),
        messages: messages([DATA_READY_TYPE], "./data-ready.json"),
      },
      cancel: {
        address: "{beamline}.{session}.job.cancel",
        description: "Who may cancel jobs publishes here, with its login as user_id.",
        parameters,
        bindings: exchange("mento.data"),
        messages: messages([JOB_CANCEL_TYPE], "./job-cancel.json"),
      },
      events: {
        address: "{beamline}.{session}.{event}",
        description: "Workers publish here; visualization clients bind queues of their own.",
        parameters: {
          ...parameters,
          event: { description: "job.submitted, job.completed, message.rejected, …" },
        },
        bindings: exchange("mento.events"),
        messages: {
          ...messages(jobTypes, "./job-event.json"),
          ...messages(messageTypes, "./message-event.json"),
        },
      },
    },
    operations: {
      takeData: { action: "receive", channel: { $ref: "#/channels/data" } },
      takeCancel: { action: "receive", channel: { $ref: "#/channels/cancel" } },
      announce: { action: "send", channel: { $ref: "#/channels/events" } },
    },
  };
}
