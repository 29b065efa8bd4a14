#!/usr/bin/env node
import { writeSync } from "node:fs";

// Imported here and not above: what cannot be loaded is said in words as well, such as where too few files may be open.
try {
  const { runCommandLine } = await import("./commands/command-line.ts");
  await runCommandLine();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  try {
    writeSync(
      2,
      `mento: Mento cannot be loaded: ${message.replace(/\p{Cc}+/gu, " ")}.\n` +
        "  Allow more open files (ulimit -n), or install Mento again. [system-error]\n",
    );
  } catch {
    // Nobody can be told.
  }
  process.exitCode = 1;
}
