import type { ApiVersion } from "./versions.ts";
import { SlurmRest } from "./slurm-rest.ts";
import { tokenFromCommand, tokenFromFile } from "./token.ts";

/** `slurmRest` of the configuration. */
export interface SlurmRestSection {
  url: string;
  user?: string | undefined;
  /** One of the two. */
  tokenFile?: string | undefined;
  tokenCommand?: readonly string[] | undefined;
  version?: ApiVersion | undefined;
  timeoutMs: number;
}

/** Slurm's REST API, as the configuration has it. Nothing is asked yet. */
export function openSlurmRest(section: SlurmRestSection | undefined): SlurmRest | null {
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
