// `npm run bench -- submit`: brings a facility up, measures, prints figures and ratios, and takes it down.
import { runSubmitBench } from "./submit.mjs";

const benches = { submit: runSubmitBench };
const name = process.argv[2] ?? "submit";
if (!(name in benches)) {
  console.error(`npm run bench -- NAME, with NAME one of ${Object.keys(benches).join(", ")}`);
  process.exit(2);
}
await benches[/** @type {keyof typeof benches} */ (name)]();
