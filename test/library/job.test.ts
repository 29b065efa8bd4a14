import { afterEach, describe, expect, it, vi } from "vitest";
import { Unavailable } from "../../src/errors.ts";
import { Job, LOG_PIECE_BYTES } from "../../src/library/job.ts";
import type { CloudEvent } from "../../src/messages/cloud-event.ts";
import { codeOf } from "../support/code-of.ts";
import { jobData } from "../support/job-data.ts";

afterEach(() => vi.useRealTimers());

const away = new Unavailable({ code: "ssh-lost", message: "The connection broke.", hint: "Wait." });

/** A job whose log is what `read` gives, from look to look; an error is a look in vain. */
function jobWith(looks: (string | Error)[], logBegins = 0) {
  const scripts: string[] = [];
  const job = new Job(jobData(), {
    run: (script) => {
      scripts.push(script);
      const look = looks.shift() ?? "";
      if (look instanceof Error) return Promise.reject(look);
      return Promise.resolve({ code: 0, signal: null, stdout: Buffer.from(look), stderr: "" });
    },
    cancel: () => Promise.reject(new Error("nobody cancels it")),
    logBegins,
  });
  const end = () => job.take(jobData("completed"), {} as CloudEvent);
  return { job, scripts, end };
}

async function all(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

describe("a job's log", () => {
  it("is looked for again while it cannot be seen", async () => {
    const { job, scripts, end } = jobWith(["one\n", away, "two\n"]);
    const text = all(job.logs());
    await vi.waitFor(() => expect(scripts.length).toBeGreaterThan(2), 10_000);
    end();
    expect(await text).toBe("one\ntwo\n");
    expect(scripts.slice(1, 3).every((script) => script.includes("tail -c +5 "))).toBe(true);
  });

  it("of a job that has ended is looked for for a minute", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const { job, scripts, end } = jobWith(Array<Error>(100).fill(away));
    end();
    const code = codeOf(all(job.logs()));
    await vi.waitFor(() => expect(scripts.length).toBe(2), 10_000);
    vi.setSystemTime(Date.now() + 60_000);
    expect(await code).toBe("ssh-lost");
  });

  it("begins where the job begins, in a file that was there before", async () => {
    const { job, scripts, end } = jobWith(["mine\n"], 1000);
    end();
    expect(await all(job.logs())).toBe("mine\n");
    expect(scripts[0]).toContain("tail -c +1001 ");
  });

  it("ends with the job, though what it has started goes on printing for ever", async () => {
    const piece = Buffer.alloc(LOG_PIECE_BYTES, "x");
    let read = 0;
    const job = new Job(jobData("completed"), {
      run: (script) => {
        const isSize = script.includes("stat -Lc %s");
        if (!isSize && ++read > 100) return Promise.reject(new Error("read for ever"));
        const stdout = isSize ? Buffer.from(String(3 * LOG_PIECE_BYTES)) : piece;
        return Promise.resolve({ code: 0, signal: null, stdout, stderr: "" });
      },
      cancel: () => Promise.reject(new Error("nobody cancels it")),
      logBegins: 0,
    });
    expect((await all(job.logs())).length).toBe(3 * LOG_PIECE_BYTES);
  });

  it("ends with an error when its trigger is closed", async () => {
    const { job } = jobWith([]);
    const following = all(job.logs()).catch(String);
    job.leave();
    expect(await following).toMatch(/not watched any more/);
  });
});
