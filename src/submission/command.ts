import { Rejected } from "../errors.ts";
import { cut } from "../text/cut.ts";
import { checkedHere } from "../jobs/link-check.ts";
import { LONGEST_SUBMIT_SECONDS } from "../jobs/directory.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import { launchCommand } from "../jobs/process.ts";
import { jobScript } from "./job-script.ts";
import { find } from "./find.ts";
import type { Method, SubmitTarget } from "./method.ts";
import { conclude, dataOf, requestOf } from "./submit-answer.ts";
import { dataHere, tooLong } from "./data-here.ts";

/** A process of its own, outside Slurm, on the host that the shell is on. */
export const command: Method = {
  async submit(plan, target, options) {
    const { jobsDirectory, shell } = target;
    const { permits = null, dataCheck } = options;
    const data = dataHere(plan, target) ?? dataOf(plan, target, dataCheck, permits !== null);
    const paths = data === null ? plan.paths : "texts" in data ? checkedHere(data) : data.paths;
    const script = jobScript(plan, jobsDirectory, {
      launch: "process",
      request: requestOf(plan, options.received),
    });
    const launch = launchCommand({
      ...{ jobsDirectory, jobId: plan.jobId, data, permits, script, log: plan.logFile, host: shell.host },
    });
    const end = await shell.run(launch, { timeout: LONGEST_SUBMIT_SECONDS * 1000 });
    const answer = parseSubmitAnswer(end.stdout.toString("utf8"), paths);
    if (answer?.kind === "outside" && plan.session === null) throw notAllowedHere(answer, target);
    if (answer?.kind === "too-long") throw tooLong(`${cut(answer.path, 200)} and so on`);
    const refusal = () => Promise.resolve(new Error("a process is not refused"));
    return conclude({ answer, end, plan, target, options, refusal });
  },
  find,
};

function notAllowedHere({ path, real }: { path: string; real: string }, target: SubmitTarget) {
  return new Rejected({
    code: "path-outside-beamtime",
    message: `${path} is ${real}, which jobs here may not be given while no session is open: it lies in none of ${target.dataHere?.folders.join(", ") ?? ""}.`,
    hint: "Name its folder in site.localData of the configuration, or open a session that it lies in.",
  });
}
