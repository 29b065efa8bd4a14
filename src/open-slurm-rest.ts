import type { MentoConfig } from "./config.ts";
import { SlurmRest } from "./slurm-rest/slurm-rest.ts";
import { tokenFromCommand, tokenFromFile } from "./slurm-rest/token.ts";

/** Slurm's REST API, as the configuration has it. Nothing is asked yet. */
export function openSlurmRest(section: MentoConfig["slurmRest"]): SlurmRest | null {
  if (section === undefined) return null;
  const { url, user, tokenFile, tokenCommand, version, timeoutMs } = section;
  const now = () => new Date();
  const token =
    tokenFile === undefined
      ? tokenFromCommand(tokenCommand ?? [], timeoutMs, now)
      : tokenFromFile(tokenFile, now);
  return new SlurmRest({
    ...{ url, token, timeoutMs },
    ...(user !== undefined && { user }),
    ...(version !== undefined && { version }),
  });
}
