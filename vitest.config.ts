import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Two cores run a broker, Slurm and the jobs beside the tests, which mostly wait for them.
    maxWorkers: 5,
    reporters: ["default", ["json", { outputFile: "node_modules/.cache/tests.json" }]],
    projects: [
      {
        test: {
          name: "unit",
          testTimeout: 30_000,
          include: ["test/**/*.test.ts"],
          exclude: ["test/integration/**"],
        },
      },
      {
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          globalSetup: "test/support/global-setup.ts",
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
