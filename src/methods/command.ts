import { lookId } from "../jobs/data-check.ts";
import { LONGEST_SUBMIT_SECONDS } from "../jobs/directory.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import { launchCommand } from "../jobs/process.ts";
import { jobScript } from "./job-script.ts";
import { find } from "./find.ts";
import type { Method } from "./method.ts";
import { conclude, dataOf, requestOf } from "./submit-answer.ts";

/** A process of its own, outside Slurm, on the host that the shell is on. */
export const command: Method = {
  async submit(plan, place, options) {
    const { jobsDirectory, shell } = place;
    const { seats = null } = options;
    const data = dataOf(plan, place, seats !== null);
    const script = jobScript(plan, jobsDirectory, {
      launch: "process",
      request: requestOf(plan, options.now),
    });
    const call = async (isSettled: boolean) => {
      const request = {
        jobsDirectory,
        jobId: plan.jobId,
        data: isSettled && data !== null ? { ...data, isSettled } : data,
        seats,
        script,
        log: plan.logFile,
        host: shell.host,
      };
      const end = await shell.run(launchCommand(request), { timeout: LONGEST_SUBMIT_SECONDS * 1000 });
      return { end, answer: parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths) };
    };
    let { end, answer } = await call(false);
    if (answer?.kind === "changing" && lookId(answer.look) === options.dataLook)
      ({ end, answer } = await call(true));
    const refusal = () => Promise.resolve(new Error("a process is not refused"));
    return conclude({ answer, end, plan, place, options, refusal });
  },
  find,
};
