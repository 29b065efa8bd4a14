import * as z from "zod";
import { brokerUrlMistake } from "../broker/url.ts";
import { MAX_MESSAGE_BYTES } from "../messages/cloud-event.ts";
import { BeamlineName, BeamtimeId } from "../messages/data-ready.ts";
import { LEAST_EVENT_BYTES } from "../messages/event-bytes.ts";
import { API_VERSIONS } from "../slurm/rest/versions.ts";
import { Trigger } from "../triggers/trigger-config.ts";

const absolutePath = z.string().regex(/^\//, "must be an absolute path");

const BrokerUrl = z
  .string()
  .regex(/^amqps?:\/\//, { error: "must begin with amqp:// or amqps://", abort: true })
  .superRefine((url, context) => {
    const message = brokerUrlMistake(url);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  });

export const BROKER_BY_DEFAULT = "amqp://127.0.0.1:5672";

export const Broker = z.strictObject({
  url: z
    .union([BrokerUrl, z.array(BrokerUrl).min(1)])
    .default(BROKER_BY_DEFAULT)
    .describe("Of several, the nodes of one cluster, each attempt takes the first that answers."),
  username: z.string().optional().describe("Default: the url's."),
  password: z.string().optional().describe("Default: the url's; better in a passwordFile."),
  passwordFile: absolutePath.optional().describe("A file that holds the password and nothing else."),
  managementUrl: z
    .string()
    .regex(/^https?:\/\//, "must begin with https:// or http://")
    .refine((url) => URL.canParse(url) && new URL(url).username === "", "is not a url without a password")
    .optional()
    .describe(
      "Where `mento doctor` asks for policies. Default: port 15672 of the first url's host, 15671 for amqps.",
    ),
  prefix: z
    .string()
    .regex(/^[A-Za-z0-9_-]+$/, "must be letters, digits, '_' or '-'")
    .default("mento")
    .describe("Of all names on the broker."),
});

export const Worker = z.strictObject({
  group: z
    .string()
    .regex(/^[A-Za-z0-9_-]+$/, "must be letters, digits, '_' or '-'")
    .default("default")
    .describe("Workers of one group share its messages; each group gets its own copy."),
  roles: z
    .array(z.enum(["intake", "tracker"]))
    .min(1)
    .default(["intake", "tracker"])
    .describe("`intake` takes messages and submits, `tracker` watches jobs."),
  concurrency: z
    .int()
    .min(1)
    .max(64)
    .default(8)
    .describe("Messages of one session handled at the same time."),
  maxPending: z
    .int()
    .min(1)
    .default(60)
    .describe("Jobs of one session that wait in Slurm at most; further messages wait on the broker."),
  maxSubmitRate: z
    .number()
    .positive()
    .default(50)
    .describe("Jobs of one session that one worker submits a second, at most."),
  lostAfterHours: z
    .number()
    .positive()
    .default(24)
    .describe("A job of which nothing was seen for so long is announced as lost, for a person to look."),
  retentionDays: z
    .number()
    .positive()
    .default(14)
    .describe("Directories of jobs that have ended are removed after so long."),
  keys: z
    .array(z.string().min(1))
    .min(1)
    .default(["#"])
    .describe("Routing keys that the group's intake queue is bound with on <prefix>.data."),
  mayCancel: z
    .array(z.string().min(1))
    .default([])
    .describe(
      "RabbitMQ's users whose messages may cancel jobs, by the property user_id, which RabbitMQ checks.",
    ),
  reconcileSeconds: z
    .number()
    .min(1)
    .max(120)
    .default(20)
    .describe("How often Slurm is asked for all jobs at once, beside the records that jobs write."),
  shutdownGraceSeconds: z
    .number()
    .min(0)
    .max(600)
    .default(30)
    .describe("So long a stopping worker finishes what is under way."),
  maxEventBytes: z
    .int()
    .min(LEAST_EVENT_BYTES)
    .max(MAX_MESSAGE_BYTES)
    .default(MAX_MESSAGE_BYTES)
    .describe("No event is larger: results, then other long parts are left out, and counted."),
  readyFile: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      "A file that is there as long as the worker takes messages and watches jobs; its time is renewed every 10 s.",
    ),
  logLevel: z
    .enum(["debug", "info", "warn", "error"])
    .default("info")
    .describe("JSON lines on standard output."),
});

const StaticSession = z.strictObject({
  id: BeamtimeId.describe("As messages name it: beamtimeId."),
  beamline: BeamlineName.describe("Where its data is taken, as messages name it."),
  paths: z
    .strictObject({
      beamline: absolutePath.describe("The session's folder as the detectors see it."),
      core: absolutePath.describe("The same folder as the nodes see it, where jobs read."),
      node: absolutePath
        .optional()
        .describe("The beamline's file system on the nodes, if they mount it apart; default: `core`."),
    })
    .describe("Its folder in three views."),
  account: z.string().min(1).describe("The account on the nodes that jobs run as."),
  privateKey: absolutePath.describe("Its private SSH key."),
  reservations: z
    .array(
      z.strictObject({
        name: z.string().min(1).optional().describe("Slurm's reservation; without, the partition alone."),
        partition: z.string().min(1).describe("Slurm's partition."),
        nodes: z.array(z.string().min(1)).min(1).describe("Hosts with sbatch, tried in turn."),
      }),
    )
    .min(1)
    .describe("Where its jobs run."),
});

export const Site = z.strictObject({
  gpfs: absolutePath.default("/gpfs").describe("The beamline file system, as this host sees it."),
  beamline: absolutePath.default("/beamline").describe("Where reserved nodes mount beamline file systems."),
  core: absolutePath.default("/asap3").describe("The core file system."),
  jobs: z
    .string()
    .regex(/^[^/.].*$/, "must be a folder relative to the beamtime's folder")
    .default("scratch_cc/mento")
    .describe("Where job directories are, below the beamtime's folder on the core file system."),
  localJobs: absolutePath
    .optional()
    .describe(
      "Where directories of jobs on this host are; default `$XDG_STATE_HOME/mento/jobs`, else `~/.local/state/mento/jobs`.",
    ),
  slurmJobs: absolutePath
    .optional()
    .describe(
      "Where directories of jobs are that this host submits as the worker's account (local-sbatch-script): on a file system that Slurm's nodes see too; default `$XDG_STATE_HOME/mento/slurm-jobs`, else `~/.local/state/mento/slurm-jobs`.",
    ),
  localData: z
    .array(absolutePath)
    .optional()
    .describe(
      "Folders whose files jobs on this host may be given while no session is open, beside those of the job that they follow on; default: `gpfs`.",
    ),
  sessions: z
    .array(StaticSession)
    .default([])
    .describe(
      "Sessions of a facility that writes no metadata files: always open, beside those that have one.",
    ),
});

const Host = z.strictObject({
  address: z.string().min(1).describe("As HostName in ssh_config."),
  port: z.int().min(1).max(65535).default(22).describe("As Port in ssh_config."),
});

export const Ssh = z.strictObject({
  knownHosts: z
    .array(absolutePath)
    .default([])
    .describe("OpenSSH known_hosts files that reserved nodes' host keys are looked up in."),
  hostKeys: z
    .record(z.string(), z.array(z.string().regex(/^SHA256:/, "must be a fingerprint like SHA256:…")).min(1))
    .default({})
    .describe("Node name → the fingerprints accepted for it; for such a node known_hosts is not asked."),
  acceptNewHostKeys: z
    .boolean()
    .default(false)
    .describe(
      "Accept a node's key when nothing is known of it, and expect it until the session ends, as accept-new of OpenSSH.",
    ),
  hosts: z
    .record(z.string(), Host)
    .default({})
    .describe("Node name → address and port, as HostName and Port in ssh_config."),
  connectTimeoutMs: z
    .int()
    .min(100)
    .max(120_000)
    .default(10_000)
    .describe("To connect and log in, and to open a channel."),
  commandTimeoutMs: z.int().min(100).max(600_000).default(30_000).describe("For a command."),
  maxChannels: z
    .int()
    .min(1)
    .max(9)
    .default(6)
    .describe(
      "Commands at the same time on one connection, which has one channel more; sshd's MaxSessions is 10.",
    ),
});

export const SlurmRest = z
  .strictObject({
    url: z
      .string()
      .regex(/^https?:\/\//, "must begin with https:// or http://")
      .refine(
        (url) => URL.canParse(url) && new URL(url).username === "",
        "is not a url: https://host:port/path, without a password",
      )
      .describe("Where slurmrestd answers, with a path before /slurm if it has one."),
    user: z.string().min(1).optional().describe("The account that jobs run as; default: the token's."),
    tokenFile: absolutePath
      .optional()
      .describe("A file with a token, as `scontrol token` prints it; it is read for each request."),
    tokenCommand: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("A program and its arguments that print a token; run again before the token ends."),
    version: z.enum(API_VERSIONS).optional().describe("Of Slurm's API; default: the newest that both know."),
    timeoutMs: z.int().min(100).max(600_000).default(30_000).describe("For each request and its answer."),
  })
  .refine(({ tokenFile, tokenCommand }) => (tokenFile === undefined) !== (tokenCommand === undefined), {
    message: "needs either tokenFile or tokenCommand",
  });

/** Which of them start one another is looked at for each pair. */
export const MOST_TRIGGERS = 1000;

/** Its form; what is wrong between keys that are right alone, triggers/trigger-mistakes.ts says. */
export const MentoConfig = z.strictObject({
  broker: Broker.prefault({}).describe("RabbitMQ."),
  worker: Worker.prefault({}).describe("How a worker works."),
  site: Site.prefault({}).describe("Where the file systems are, as the worker's host sees them."),
  ssh: Ssh.prefault({}).describe("How nodes are reached."),
  slurmRest: SlurmRest.optional().describe("Slurm's REST API, for triggers that submit over it."),
  triggers: z.array(Trigger).max(MOST_TRIGGERS).default([]).describe("Which messages start which programs."),
});
export type MentoConfig = z.infer<typeof MentoConfig>;
