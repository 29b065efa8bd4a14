/**
 * Every error that Mento reports: a stable code, a sentence for the person who reads it, and what to do.
 * Programs match on `code`; the list below is the one that `docs/errors.md` shows.
 */

import { cut } from "./text/cut.ts";

export const ERROR_CODES = {
  // A message that will never work as it is.
  "message-too-large": "The message is larger than 1 MiB.",
  "not-utf8": "The message is not UTF-8 text.",
  "not-json": "The message is not JSON.",
  "wrong-schema": "The message is JSON, but not of the published schema.",
  "unknown-type": "The message is of a type that Mento does not know.",
  "unknown-version": "The message is of a version that this Mento does not know.",
  "unknown-beamtime": "No beamtime of this id is known.",
  "session-unclear": "A beamtime and a commissioning run are open, and the message tells not which it means.",
  "wrong-beamline": "The message, or its routing key, names a beamline that its beamtime is not at.",
  "path-outside-beamtime": "A path does not lie in the beamtime that the message belongs to.",
  "path-not-synced": "A path lies in scratch_bl or local, which never reach the core file system.",
  "template-value-missing": "A trigger needs a value that the message does not have.",
  "wrong-argument":
    "An argument would hold NUL, begin with - where a message's name is, or all of them are too long.",
  "chain-too-long":
    "Jobs followed from one another more than 16 times: triggers start each other in a circle.",
  "event-not-believed": "A job's event came by another exchange than that of Mento's events.",
  "id-reused": "The message's source and id were used before, for other data.",
  "beamtime-ended": "The beamtime has been stopped: its account or its reservations are gone.",
  "unknown-trigger": "The configuration lacks the trigger that a message is to be sent again for.",
  "submit-refused": "Slurm refused the job for a reason that will not pass.",
  "cancel-not-allowed": "The message asks to cancel jobs, and its sender is not one of those who may.",
  "waited-too-long": "What the message waited for did not come in time.",
  "record-unfit": "A record of a job that is watched does not fit the job, or the configuration.",
  "worker-ended": "Workers that took the message ended, again and again, before they had handled it.",
  "internal-error": "Mento itself failed on this message: a bug.",
  // Not now, but perhaps later.
  "no-session-open": "No beamtime is open at the beamline.",
  "no-online-resources": "The beamtime is open, but was started without online resources.",
  "metadata-unreadable": "The beamtime's metadata file is there, but cannot be read.",
  "private-key-unreadable": "The beamtime's private SSH key cannot be read.",
  "private-key-format": "The beamtime's private key is in a format that cannot be used.",
  "data-not-there": "The data is not on the core file system yet.",
  "data-changing": "The data is there, of unknown size, and still being written.",
  "no-reservation-fits":
    "None of the beamtime's reservations fits the job; it waits, fails or runs outside them.",
  "session-busy": "Many messages of the session wait already; this one lets other sessions' pass.",
  "cancel-busy": "Many requests to cancel jobs wait already, and are done one after the other.",
  "too-many-pending": "As many jobs of the session as are allowed wait in Slurm already.",
  "trigger-full": "As many of the trigger's jobs as may have not ended yet; the message waits for its turn.",
  "session-full": "As many of the session's jobs as may have not ended yet; the message waits for its turn.",
  superseded: "A newer message took this one's place, as its trigger wants (latest).",
  "submit-in-flight": "Another call is just submitting this job, or was cut off doing so.",
  "submit-not-now": "Slurm does not take the job at the moment.",
  "jobs-folder-unsafe": "Others could write into the folder where this worker keeps jobs of its own account.",
  "ssh-login-refused": "The reserved node did not accept the beamtime's account and key.",
  "login-shell": "A reserved node lets the account in, but its login shell runs no commands.",
  "folder-not-writable":
    "A folder for jobs cannot be written to: a full disk, a quota, a read-only file system.",
  "slurm-rest-refused": "Slurm's REST server did not accept the account and its token.",
  "slurm-rest-token": "There is no valid token for Slurm's REST server.",
  // Nobody can work at the moment.
  "broker-unreachable": "RabbitMQ cannot be reached.",
  "broker-refused": "RabbitMQ is there, but refused the login or the virtual host.",
  "broker-lost": "The connection to RabbitMQ broke.",
  "publish-unconfirmed": "RabbitMQ did not confirm a published message.",
  "publish-impossible":
    "A message cannot be published as it is: it is too large for RabbitMQ, or not to be written in AMQP.",
  "publish-refused": "RabbitMQ did not take a published message: a queue that is to have it is full.",
  "ssh-unreachable": "A reserved node cannot be reached over SSH.",
  "ssh-lost": "The SSH connection broke, or a command did not end in time: its outcome is unknown.",
  "slurm-unavailable": "Slurm's controller does not answer.",
  "worker-silent": "A job can be cancelled by its host's worker alone, which has not answered yet.",
  // Something is set up wrongly.
  "wrong-usage": "A command was called in a way that it does not understand.",
  "system-error": "The operating system refused something, such as a file or a port.",
  "wrong-configuration": "The configuration has mistakes.",
  "configuration-unreadable": "The configuration file cannot be read.",
  "runtime-directory-unsafe": "The folder for private keys is open to other accounts.",
  "queue-arguments-differ": "A queue or exchange exists on the broker with other arguments.",
  "not-announced": "The history has no message and no job that is called so.",
  "exchange-missing": "The broker has none of Mento's exchanges: no worker has run on it yet.",
  "nobody-listens": "The broker took the message, but no queue is bound for it.",
  "job-unknown": "There is no job of this id, or nothing is known of it any more.",
  "cancel-refused": "A job that runs could not be cancelled.",
  "dead-letter-unknown": "There is no dead letter of this id.",
  "events-missed": "RabbitMQ has removed events from its history before a subscription read them.",
  "dead-letters-busy": "Another command is at the dead letters.",
  "host-key-unknown": "There is no known host key for a reserved node.",
  "host-key-changed": "A reserved node shows another host key than the known one.",
  "slurm-rest-version": "Slurm's REST server offers no version of its API that Mento knows.",
  "ssh-not-installed": "The program ssh of OpenSSH is not installed.",
  // How a job failed.
  "exit-code": "The program ended with an exit code other than 0.",
  signal: "The program was ended by a signal.",
  timeout: "The job ran into its time limit.",
  "out-of-memory": "The job used more memory than it had asked for.",
  "node-failure": "The node failed while the job ran.",
  preempted: "Slurm took the node away for another job.",
  deadline: "The job could not run before its deadline, or its reservation ended.",
  "launch-failed": "Slurm could not start the job on its node.",
  "not-prepared":
    "Not all that the program is given could be written on its node (a full disk?), or its data was replaced: it did not run.",
  lost: "Nothing was seen of the job for a long time; a person must look what became of it.",
  "reservation-deleted": "The job's reservation was deleted.",
  "slurm-forgot": "Slurm's controller was ended, and no longer knew the job, which had not begun.",
  // The facility on one machine.
  "facility-not-up": "No facility is running in this directory.",
  "facility-packages-missing": "Programs that the facility needs are not installed.",
  "facility-start-failed": "A server of the facility did not start.",
  "facility-beamtime": "The beamtime cannot be started or stopped as asked.",
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

interface ErrorDetails {
  code: ErrorCode;
  /** What happened and where, in one sentence. */
  message: string;
  /** What the reader can do about it, in one sentence. */
  hint: string;
  cause?: unknown;
}

/** Any error with a code. Thrown as such where the code alone says enough; the kinds below say what follows. */
export class MentoError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(details: ErrorDetails) {
    super(details.message, { cause: details.cause });
    this.name = new.target.name;
    this.code = details.code;
    this.hint = details.hint;
  }
}

/** What others wrote is quoted in errors about their messages, which go into events, answers, headers and logs. */
const LONGEST_MESSAGE = 4000;

function bounded<T extends ErrorDetails>(details: T): T {
  return {
    ...details,
    message: cut(details.message, LONGEST_MESSAGE),
    hint: cut(details.hint, LONGEST_MESSAGE),
  };
}

/** This message never works: it goes to the dead-letter queue, with the reason. */
export class Rejected extends MentoError {
  constructor(details: ErrorDetails) {
    super(bounded(details));
  }
}

/** Not now: the message waits on the broker and comes back, until this has been the reason for `giveUpAfterSeconds`. */
export class Deferred extends MentoError {
  readonly giveUpAfterSeconds: number;
  /** What was seen of data of unknown size; the message carries it to the next look. */
  readonly dataCheck: string | undefined;
  /** Nothing is wrong so far: it is not announced. */
  readonly isSilent: boolean;
  readonly waitAtMostSeconds: number;
  /** So long it waits if it is silent; others wait longer each time. */
  readonly waitSeconds: number;
  /** So often it may happen to a message, whatever else happens in between. */
  readonly giveUpAfterTimes: number;

  constructor(
    details: ErrorDetails & {
      giveUpAfterSeconds: number;
      dataCheck?: string | undefined;
      isSilent?: boolean;
      waitAtMostSeconds?: number;
      waitSeconds?: number;
      giveUpAfterTimes?: number;
    },
  ) {
    super(bounded(details));
    this.giveUpAfterSeconds = details.giveUpAfterSeconds;
    this.dataCheck = details.dataCheck;
    this.isSilent = details.isSilent ?? false;
    this.waitAtMostSeconds = details.waitAtMostSeconds ?? Infinity;
    this.waitSeconds = details.waitSeconds ?? 1;
    this.giveUpAfterTimes = details.giveUpAfterTimes ?? Infinity;
  }
}

/** A newer message has had its turn with a trigger that shows the latest only: nothing is left to do for this one. */
export class Superseded extends MentoError {
  /** The newer message's id. */
  readonly by: string;

  constructor(by: string) {
    super({
      code: "superseded",
      message: `superseded by message ${by}`,
      hint: "The trigger shows the latest message only (latest).",
    });
    this.by = by;
  }
}

/** Nobody can work now: the worker stops consuming until it can. No attempt of the message is used up. */
export class Unavailable extends MentoError {}

/** RabbitMQ cannot be worked with: whatever had the link to it starts over, and it delivers again what was not acked. */
export class BrokerUnavailable extends Unavailable {}

/** Something is set up wrongly. Repeating does not help; a person must change it. */
export class Misconfigured extends MentoError {}

/** What keeps everybody, or everybody of one session, from work: a node, Slurm, the configuration; not the broker. */
export function isOutage(error: unknown): error is Unavailable | Misconfigured {
  return (
    (error instanceof Unavailable || error instanceof Misconfigured) && !(error instanceof BrokerUnavailable)
  );
}

/** A command's exit status for it: 1 failed, 2 wrong usage or configuration, 3 a server is out of reach. */
export function exitStatusOf(error: MentoError): number {
  if (error instanceof Misconfigured) return 2;
  return error instanceof Unavailable || error.code === "exchange-missing" ? 3 : 1;
}

/** The text of anything that was thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
