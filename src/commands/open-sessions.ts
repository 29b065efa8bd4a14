import { pino } from "pino";
import { Sessions } from "../beamtime/session.ts";
import type { MentoConfig } from "../config/config.ts";
import type { Log } from "../log.ts";
import { RuntimeDirectory } from "../shells/runtime-directory.ts";
import { SubmitTargets } from "../submission/submit-targets.ts";
import { LocalShell } from "../shells/local.ts";
import { SessionShells } from "../submission/session-shells.ts";
import { sayLine } from "../text/terminal.ts";

/** The sessions of a configuration, and the way to their nodes, for as long as one command runs. */
export interface OpenSessions {
  sessions: Sessions;
  runtime: RuntimeDirectory;
  shells: SessionShells;
  places: SubmitTargets;
  /** Ends the connections and removes what was put into the runtime directory. */
  close(): void;
}

/** @param warn gets what the parts of a worker write as warnings into its log */
export function openSessions(
  config: MentoConfig,
  warn = (text: string) => sayLine(`mento: ${text}`),
): OpenSessions {
  const log = logTo(warn);
  const runtime = new RuntimeDirectory();
  const shells = new SessionShells(config.ssh, runtime, log);
  return {
    sessions: new Sessions(config.site, (message) => log.warn(message)),
    runtime,
    shells,
    places: new SubmitTargets(config.site, shells, { here: new LocalShell(config.ssh.commandTimeoutMs) }),
    close: () => {
      shells.closeAll();
      runtime.remove();
    },
  };
}

/** What is logged as a warning, in words. */
export function logTo(warn: (text: string) => void): Log {
  const write = (line: string) => {
    const { msg, ...facts } = JSON.parse(line) as Record<string, unknown>;
    const list = Object.entries(facts).filter(([name]) => name !== "level");
    const details = list.map(([name, value]) => `${name} ${String(value)}`).join(", ");
    warn(`${String(msg)}${details === "" ? "" : ` (${details})`}`);
  };
  return pino({ level: "warn", base: null, timestamp: false }, { write });
}
