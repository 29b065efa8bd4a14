// Prints the results of each job that completes, one line each, until Ctrl-C:
//   node print-results.mjs --beamline p11 --since 2h
// The broker: --url, or MENTO_BROKER_URL. A lost broker is waited for; no event is missed, none is shown twice.
import { parseArgs } from "node:util";
import { connectBroker, isJobEvent, MentoError, subscribe } from "mento";

const { values } = parseArgs({
  options: {
    url: { type: "string", default: process.env["MENTO_BROKER_URL"] ?? "amqp://127.0.0.1" },
    prefix: { type: "string", default: "mento" },
    beamline: { type: "string" },
    session: { type: "string" },
    trigger: { type: "string" },
    since: { type: "string" },
  },
});
const { url, prefix, ...wanted } = values;

try {
  const broker = await connectBroker({ url, prefix, name: "print-results" });
  const { events } = await subscribe(broker, {
    ...wanted,
    types: ["job.completed"],
    wait: true,
    onFailure: (failure) => console.error(failure?.message ?? "connected again"),
  });
  for await (const event of events) {
    if (!isJobEvent(event)) continue;
    const { job, paths, results } = event.data;
    const made = results.map(({ path, beamlinePath }) => beamlinePath ?? path);
    console.log([event.time, job.trigger, paths[0], "→", ...made].join(" "));
  }
} catch (error) {
  console.error(error instanceof MentoError ? `${error.message} ${error.hint}` : error);
  process.exit(1);
}
