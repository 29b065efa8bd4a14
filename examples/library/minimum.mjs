// The smallest program: an analysis of one file, as a Slurm job in the open beamtime's reservation.
//   node minimum.mjs /asap3/petra3/gpfs/common/p11/bin/maxwell_program.exe /gpfs/current/raw/s1/data.h5
import { Trigger } from "mento";

const [program = "maxwell_program.exe", data = "/gpfs/current/raw/s1/data.h5"] = process.argv.slice(2);

const trigger = new Trigger();
const job = await trigger.run([program, ["analysis", data]]); // the job gets the file's path on the core file system
console.log(`Slurm job ${job.slurmJobId}, log ${job.directory}/job.log`);

const { state, exit, error } = await job.ended();
console.log(state, error?.message ?? "");
process.exitCode = state === "completed" ? 0 : (exit.code ?? 1);
