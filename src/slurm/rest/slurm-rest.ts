import * as z from "zod";
import { Deferred, Misconfigured, Unavailable } from "../../errors.ts";
import { cut } from "../../text/cut.ts";
import { countPending, MOST_RESERVATIONS, MOST_RESERVED, type SlurmNow } from "../slurm-now.ts";
import { ALREADY_DONE, type Answer, controllerState, type Done, NO_SUCH_JOB, readAnswer } from "./answer.ts";
import { type Reply, type Request, request } from "./request.ts";
import { SharedQuery } from "./shared-query.ts";
import { claimsOf, noToken, type Token } from "./token.ts";
import {
  API_VERSIONS,
  type ApiVersion,
  decodeJob,
  decodeNode,
  decodeReservation,
  encodeSubmit,
  type ListedJob,
  mayBeOf,
  newestKnown,
  type RestJob,
} from "./versions.ts";
import { endFromSlurm } from "../job-states.ts";

/** More than any cluster has; each takes its time to be read. */
const MOST_NODES = 20_000;
/** Slurm's MaxJobCount is 10,000 by default. */
const MOST_JOBS = 200_000;

export interface SlurmRestOptions {
  /** Where slurmrestd answers, with a path before `/slurm` if it has one: `https://slurm.example.org/sapi`. */
  url: string;
  /** Default: the token's. */
  user?: string | undefined;
  token: Token;
  /** Default: the newest that both know. */
  version?: ApiVersion | undefined;
  /** For each request, its whole answer included. */
  timeoutMs: number;
}

export interface JobList {
  jobs: ListedJob[];
  /** False if something is listed that may be any job: then a job that is not among these may still be there. */
  isWhole: boolean;
}

export type SubmitOutcome =
  | { kind: "submitted"; slurmJobId: string }
  /** Slurm said no, in these words; `number` is that of slurm_errno.h. There is no job. */
  | { kind: "refused"; error: string; number: number | undefined }
  /** There may be a job: it is to be looked for, by its comment, before it is submitted again. */
  | { kind: "unknown"; why: string };

/**
 * A client for slurmrestd.
 *
 * All of it throws, when it is certain that nothing was done:
 *
 * - Unavailable `slurm-unavailable`: slurmrestd or slurmctld is not reached, or does not answer
 * - Deferred `slurm-rest-refused`, `slurm-rest-token`: not with this account and token
 * - Misconfigured `slurm-rest-version`, `wrong-configuration`
 */
export class SlurmRest {
  readonly #options: SlurmRestOptions;
  #version: Promise<ApiVersion> | undefined;
  readonly #look = new SharedQuery(() => this.#askNow());

  constructor(options: SlurmRestOptions) {
    this.#options = { ...options, url: options.url.replace(/\/+$/, "") };
  }

  async submit(job: RestJob): Promise<SubmitOutcome> {
    const answer = await this.#ask("POST", "job/submit", (version) => encodeSubmit(version, job));
    if (answer.kind === "done") {
      if (answer.jobId !== undefined) return { kind: "submitted", slurmJobId: answer.jobId };
      return { kind: "unknown", why: "Slurm's REST server answered without a job id" };
    }
    if (answer.kind === "broken") return { kind: "unknown", why: answer.why };
    if (answer.kind === "error") {
      const { number, text } = answer;
      const controller = controllerState(number);
      if (controller === "answers") return { kind: "refused", error: text, number };
      if (controller === "silent") return { kind: "unknown", why: text };
    }
    throw this.#failure(answer);
  }

  /** All jobs of the account that Slurm's controller still knows: also those that ended lately (MinJobAge). */
  async list(): Promise<JobList> {
    const answer = await this.#done("jobs");
    return this.#own(answer.jobs);
  }

  /**
   * What Slurm says of reservations, nodes and the account's jobs that wait, or said seconds ago, but not before this time
   * (milliseconds). Trouble that any request meets counts as an answer.
   */
  now(notBefore = 0): Promise<SlurmNow> {
    return this.#look.get(notBefore);
  }

  async #askNow(): Promise<SlurmNow> {
    const [reservations, nodes, jobs] = await Promise.all(
      ["reservations", "nodes", "jobs"].map((what) => this.#done(what)),
    );
    if (reservations?.reservations === undefined || nodes?.nodes === undefined || jobs?.jobs === undefined) {
      throw this.#failure({ kind: "broken", why: "it lists no reservations, nodes or jobs" });
    }
    const named = <T extends { name: string }>(ones: T[]) => new Map(ones.map((one) => [one.name, one]));
    let nodesLeft = MOST_RESERVED;
    const reserved = reservations.reservations.slice(0, MOST_RESERVATIONS).flatMap((one) => {
      const reservation = decodeReservation(one, { most: nodesLeft });
      nodesLeft -= reservation?.nodes.length ?? 0;
      return reservation ?? [];
    });
    return {
      at: Math.floor((reservations.date ?? Date.now()) / 1000),
      reservations: named(reserved),
      nodes: named(nodes.nodes.slice(0, MOST_NODES).flatMap((one) => decodeNode(one) ?? [])),
      pending: countPending((await this.#own(jobs.jobs)).jobs),
    };
  }

  async #done(path: string): Promise<Done> {
    const answer = await this.#ask("GET", path);
    if (answer.kind !== "done") throw this.#failure(answer);
    return answer;
  }

  /** undefined if Slurm's controller does not know it, or it is another account's: ids come again after MaxJobId. */
  async get(slurmJobId: string): Promise<ListedJob | undefined> {
    const answer = await this.#ask("GET", `job/${encodeURIComponent(slurmJobId)}`);
    if (answer.kind === "error" && answer.number === NO_SUCH_JOB) return undefined;
    if (answer.kind !== "done") throw this.#failure(answer);
    const { jobs, isWhole } = await this.#own(answer.jobs);
    const job = jobs.find(({ id }) => id === slurmJobId);
    if (job === undefined && !isWhole) {
      throw this.#failure({ kind: "broken", why: "it lists a job that cannot be read" });
    }
    return job;
  }

  /**
   * Cancels a job; `gone` has ended already, `unknown` is not a job of this account.
   *
   * It looks first: up to v0.0.41 the answer is the same for every id, and Slurm 24.11 and 26.05 were seen to hang when
   * somebody cancels another account's job.
   */
  async cancel(slurmJobId: string): Promise<"cancelled" | "gone" | "unknown"> {
    const job = await this.get(slurmJobId);
    if (job === undefined) return "unknown";
    if (job.state === "COMPLETING" || endFromSlurm(job.state) !== undefined) return "gone";
    const answer = await this.#ask("DELETE", `job/${encodeURIComponent(slurmJobId)}`);
    const number =
      answer.kind === "done" ? answer.cancelError : answer.kind === "error" ? answer.number : undefined;
    if (number === ALREADY_DONE) return "gone";
    if (number === NO_SUCH_JOB) return "unknown";
    if (answer.kind === "done" && number === undefined) return "cancelled";
    throw this.#failure(
      answer.kind === "done" ? { kind: "error", number, text: `error ${number ?? ""}` } : answer,
    );
  }

  /** Whose jobs they are. */
  async account(): Promise<string> {
    return this.#options.user ?? (await this.#credentials()).user;
  }

  /** An answer without a list does not say that there are none. */
  async #own(listed: readonly unknown[] | undefined): Promise<JobList> {
    const user = await this.account();
    if (listed === undefined) throw this.#failure({ kind: "broken", why: "it lists no jobs" });
    if (listed.length > MOST_JOBS) {
      throw this.#failure({
        kind: "broken",
        why: `it lists ${listed.length} jobs; ${MOST_JOBS} are read at most`,
      });
    }
    const own = listed.filter((one) => mayBeOf(user, one)).map(decodeJob);
    const jobs = own.filter((job) => job !== undefined);
    return { jobs, isWhole: jobs.length === own.length };
  }

  /** Once more with another token, and with another version of the API, if it is for these that nothing was done. */
  async #ask(
    method: Request["method"],
    path: string,
    body?: (version: ApiVersion) => object,
  ): Promise<Answer> {
    const once = async () => {
      const version = await this.#currentVersion();
      return this.#send(method, `slurm/${version}/${path}`, body?.(version));
    };
    let answer = await once();
    if (answer.kind === "unknown-path") {
      if (this.#options.version !== undefined) throw this.#noVersion(await this.#offered());
      this.#version = undefined;
      answer = await once();
    }
    if (isFailure(answer)) this.#look.fail(this.#failure(answer));
    return answer;
  }

  async #send(method: Request["method"], path: string, body?: object): Promise<Answer> {
    const first = await this.#credentials();
    const answer = readAnswer(await this.#request(method, path, first, body));
    if (answer.kind !== "refused") return answer;
    const other = await this.#credentials(first.token);
    if (other.token === first.token) return answer;
    return readAnswer(await this.#request(method, path, other, body));
  }

  #request(
    method: Request["method"],
    path: string,
    { user, token }: { user: string; token: string },
    body?: object,
  ): Promise<Reply> {
    const { url, timeoutMs } = this.#options;
    const headers = { "X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": token };
    return request({
      method,
      url: `${url}/${path}`,
      headers,
      ...(body === undefined ? {} : { body }),
      timeoutMs,
    });
  }

  async #credentials(refused?: string): Promise<{ user: string; token: string }> {
    const token = await this.#options.token(refused);
    const user = this.#options.user ?? claimsOf(token).user;
    if (user === undefined) {
      throw noToken("The token for Slurm's REST server does not say whose it is.", "Set slurmRest.user.");
    }
    return { user, token };
  }

  #currentVersion(): Promise<ApiVersion> {
    if (this.#options.version !== undefined) return Promise.resolve(this.#options.version);
    return (this.#version ??= this.#findVersion().catch((error: unknown) => {
      this.#version = undefined;
      throw error;
    }));
  }

  async #findVersion(): Promise<ApiVersion> {
    const offered = await this.#offered();
    const version = newestKnown(offered);
    if (version === undefined) throw this.#noVersion(offered);
    return version;
  }

  /** The versions that slurmrestd has plugins for; the newest known one alone where it does not list its paths. */
  async #offered(): Promise<string[]> {
    const credentials = await this.#credentials();
    const reply = await this.#request("GET", "openapi/v3", credentials);
    const paths = reply.kind === "answer" ? OpenApi.safeParse(reply.json).data?.paths : undefined;
    if (paths !== undefined) {
      const versions = Object.keys(paths).flatMap((path) => /^\/slurm\/(v[\d.]+)\//.exec(path)?.[1] ?? []);
      return [...new Set(versions)].sort();
    }
    for (const version of API_VERSIONS.toReversed()) {
      const answer = await this.#send("GET", `slurm/${version}/ping`);
      if (answer.kind === "done" || answer.kind === "error") return [version];
      if (answer.kind !== "unknown-path") throw this.#failure(answer);
    }
    return [];
  }

  #noVersion(offered: readonly string[]): Misconfigured {
    const { url, version = `${API_VERSIONS[0]} to ${API_VERSIONS.at(-1) ?? ""}` } = this.#options;
    const what = offered.length === 0 ? "no version of Slurm's API" : cut(offered.join(", "), 200);
    return new Misconfigured({
      code: "slurm-rest-version",
      message: `${url} offers ${what}; wanted is ${version}.`,
      hint: "Correct slurmRest.url or slurmRest.version, or have slurmrestd offer one of these (its option -s or -d).",
    });
  }

  #failure(answer: Exclude<Answer, { kind: "done" }>): Error {
    const { url } = this.#options;
    switch (answer.kind) {
      case "refused":
        return refused(url, answer.text);
      case "moved":
        return new Misconfigured({
          code: "wrong-configuration",
          message: `${url} sends its callers on to ${answer.to}.`,
          hint: "Set slurmRest.url to where Slurm's REST server is now.",
        });
      case "unknown-path":
        return unavailable(`Slurm's REST server at ${url} does not know its own paths`);
      case "error":
        if (controllerState(answer.number) === "answers") return refused(url, answer.text);
        return unavailable(`Slurm's controller did not answer ${url}: ${answer.text}`);
      default:
        return unavailable(`Slurm's REST server at ${url} did not answer: ${answer.why}`);
    }
  }
}

/** Of the server, its controller or the token; not of what was asked. */
function isFailure(answer: Answer): answer is Exclude<Answer, { kind: "done" }> {
  if (answer.kind === "error") return controllerState(answer.number) !== "answers";
  return ["unsent", "broken", "refused"].includes(answer.kind);
}

const OpenApi = z.looseObject({ paths: z.record(z.string(), z.unknown()) });

function refused(url: string, text: string): Deferred {
  return new Deferred({
    code: "slurm-rest-refused",
    message: `Slurm's REST server at ${url} refused: ${text}.`,
    hint: "Is the token for this account and cluster, and not revoked? `scontrol token` makes another.",
    giveUpAfterSeconds: 24 * 3600,
  });
}

function unavailable(what: string): Unavailable {
  return new Unavailable({
    code: "slurm-unavailable",
    message: `${what}.`,
    hint: "Mento tries again; if Slurm is up, the token may be at fault, for which Slurm 22.05 has no other word.",
  });
}
