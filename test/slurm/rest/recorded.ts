import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { API_VERSIONS, type ApiVersion } from "../../../src/slurm/rest/versions.ts";

interface Answer {
  status: number;
  contentType: string | null;
  body: unknown;
}

interface RecordedJob {
  job_id: number;
}

/** See test/recorded/README.md. */
export interface Recorded {
  api: ApiVersion;
  /** The recorded jobs' ids, by what became of them. */
  jobs: Record<
    "running" | "seven" | "zero" | "segv" | "wait" | "cancelled" | "cancelledPending" | "time" | "root",
    number
  >;
  answers: Record<string, Answer> & { list: Answer & { body: { jobs: RecordedJob[] } } };
  submitSchema: { properties: { job: { properties: Record<string, object> } } };
}

/** The real 26.05 offers v0.0.45 too; of what Mento uses, nothing differs from v0.0.44 (`parsers.c` of both). */
const NOT_RECORDED: readonly ApiVersion[] = ["v0.0.45"];

export const RECORDED = API_VERSIONS.filter((version) => !NOT_RECORDED.includes(version)).map((version) => {
  const file = new URL(`../../recorded/slurm-rest-${version}.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")) as Recorded;
});

export function recordedOf(version: ApiVersion): Recorded {
  const found = RECORDED.find(({ api }) => api === version);
  if (found === undefined) throw new Error(`nothing is recorded of ${version}`);
  return found;
}

export interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
}

/** What a server answers; a function instead of an answer has the connection for itself. */
export type Behaviour = (asked: Asked) => Answer | ((response: ServerResponse) => void);

/** Offers this version alone. Answers as it was recorded, but for `instead`: a recorded answer's name for a method and path. */
export function asRecorded(recorded: Recorded, instead: Record<string, string> = {}): Behaviour {
  const { answers, jobs, api } = recorded;
  const named = (name: string) => answers[name] ?? fail(`${api}: ${name} is not recorded`);
  return ({ method, path }) => {
    const replaced = instead[`${method} ${path}`];
    if (replaced !== undefined) return named(replaced);
    if (path === "/openapi/v3")
      return { ...named("openapi"), body: { paths: { [`/slurm/${api}/jobs/`]: {} } } };
    if (!path.startsWith(`/slurm/${api}/`)) return named("unknown-path");
    const [what, id] = path.slice(`/slurm/${api}/`.length).split("/");
    if (method === "POST") return named("submit");
    if (what === "jobs") return named("list");
    if (what === "reservations" || what === "nodes") return named(what);
    const job = answers.list.body.jobs.find(({ job_id }) => String(job_id) === id);
    if (method === "DELETE") {
      if (job === undefined) return named("cancel-unknown");
      return named(job.job_id === jobs.seven ? "cancel-ended" : "cancel");
    }
    if (job === undefined) return named("get-unknown");
    return { ...named("get"), body: { ...(named("get").body as object), jobs: [job] } };
  };
}

function fail(message: string): never {
  throw new Error(message);
}

export interface TestServer {
  url: string;
  asked: Asked[];
  close: () => void;
}

export async function startServer(behaviour: Behaviour): Promise<TestServer> {
  const asked: Asked[] = [];
  const server: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString("utf8")));
    request.on("end", () => {
      const one = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
      asked.push(one);
      const answer = behaviour(one);
      if (typeof answer === "function") {
        answer(response);
        return;
      }
      response.writeHead(answer.status, { "content-type": answer.contentType ?? "text/plain" });
      response.end(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export const USER = "bt11010000";

/** A token as slurmctld makes it, but of no key. */
export function tokenOf(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}.c2lnbmF0dXJl`;
}
