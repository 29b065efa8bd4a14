import { execFileSync } from "node:child_process";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** They wait for minutes: those that begin last would be waited for alone. */
const LONG = [
  ...["odd-programs", "broker-faults", "dead-letters", "floods", "cancel-faults", "crash-points"],
  ...["hostile-messages", "reservations", "array", "time-limit", "chaos", "rehearsal", "many-jobs"],
];

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) =>
      LONG.some((name) => moduleId.endsWith(`/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/**
 * Two cores run a broker, Slurm and the jobs beside the tests: with more files at once, each only takes longer. Most of the
 * work is starting processes. A virtual machine beside busy ones needs ten times as long for one, and then fewer files
 * keep both cores busy.
 */
function filesAtOnce(): number {
  const begun = performance.now();
  execFileSync("/bin/sh", ["-c", "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"]);
  return (performance.now() - begun) / 200 < 2 ? 5 : 3;
}

const containers = {
  extends: true as const,
  test: { name: "containers", sequence: { groupOrder: 2 }, include: ["test/containers/**/*.test.ts"] },
};

export default defineConfig({
  test: {
    // Each program that a test starts begins as a copy of its process: with threads, of one that is four times as large.
    pool: "forks",
    isolate: false,
    sequence: { sequencer: LongFirst },
    reporters: ["default", ["json", { outputFile: "node_modules/.cache/tests.json" }]],
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          // They use whole cores, and run before the servers do.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
          // Some start hundreds of processes, or remove thousands of files.
          testTimeout: 300_000,
          hookTimeout: 300_000,
          include: ["test/**/*.test.ts"],
          exclude: ["test/integration/**", "test/containers/**"],
        },
      },
      {
        extends: true,
        test: {
          name: "integration",
          maxWorkers: filesAtOnce(),
          sequence: { groupOrder: 1 },
          include: ["test/integration/**/*.test.ts"],
          globalSetup: "test/support/global-setup.ts",
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      // What needs a Docker engine: `npm run test:containers` alone runs it.
      ...(process.env["MENTO_TEST_SERVERS"] === "containers" ? [containers] : []),
    ],
  },
});
