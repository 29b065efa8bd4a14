// `npm run chaos`: many messages, several workers, a fault a second, and then everything is counted.
import { HELP, parseOptions, WrongUsage } from "./options.mjs";
import { printReport } from "./report.mjs";
import { runChaos } from "./run.mjs";

/** @param {string[]} args */
async function main(args) {
  let options;
  try {
    options = parseOptions(args);
  } catch (error) {
    if (!(error instanceof WrongUsage)) throw error;
    console.error(error.message);
    return 2;
  }
  if (options.help) {
    console.log(HELP);
    return 0;
  }
  const stop = new AbortController();
  // Everything is taken down all the same.
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
  }
  const report = await runChaos(options, stop.signal);
  if (options.json) console.log(JSON.stringify(report));
  else printReport(report);
  return report.verdict === "passed" ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
