// A plot of a result on this computer, outside Slurm; no beamtime needs to be open.
//   node local-visualization.mjs /gpfs/current/processed/onlineanalysis/powder/scan_0001_master.dat
import { fileURLToPath } from "node:url";
import { Trigger, TriggerMethod } from "mento";

const [curve = "/gpfs/current/processed/curve.dat"] = process.argv.slice(2);
const script = fileURLToPath(new URL("show_curve.sh", import.meta.url));

const trigger = new Trigger(TriggerMethod.LOCAL_BASH_SCRIPT);
const job = await trigger.run([script, curve]);
for await (const text of job.logs()) process.stdout.write(text);

const { state, exit, results } = await job.ended();
for (const { path } of results) console.log(path);
process.exitCode = state === "completed" ? 0 : (exit.code ?? 1);
