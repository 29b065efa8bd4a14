import { existsSync } from "node:fs";
import { configFile, loadConfig, type MentoConfig } from "../config/config.ts";
import { parseConfig } from "../config/config-file.ts";
import { Misconfigured } from "../errors.ts";
import { knownHostsHere } from "../shells/known-hosts-here.ts";

/** What a program that uses the library says of the site. */
export interface SiteOptions {
  /** The beamline's file system, as this host sees it. Default: `/gpfs`, or what the configuration says. */
  beamlineRoot?: string;
  /** The configuration, or its file. Default: `$MENTO_CONFIG`, `./mento.yaml`, `/etc/mento/mento.yaml`; none is needed. */
  config?: MentoConfig | string;
}

/**
 * Without a file, the defaults are DESY's, and host keys are looked up where ssh(1) does.
 *
 * @throws Misconfigured `wrong-configuration`, `configuration-unreadable`
 */
export function libraryConfig({ config, beamlineRoot }: SiteOptions): MentoConfig {
  const loaded = typeof config === "object" ? config : loadOrDefault(config);
  return beamlineRoot === undefined ? loaded : { ...loaded, site: { ...loaded.site, gpfs: beamlineRoot } };
}

function loadOrDefault(file: string | undefined): MentoConfig {
  const found = file ?? foundFile();
  if (found !== undefined) return loadConfig(found, process.env);
  const { config, mistakes } = parseConfig("{}", process.env);
  if (config !== undefined) {
    const { knownHosts } = config.ssh;
    return {
      ...config,
      ssh: { ...config.ssh, knownHosts: knownHosts.length > 0 ? knownHosts : knownHostsHere() },
    };
  }
  throw new Misconfigured({
    code: "wrong-configuration",
    message: `The environment has mistakes: ${mistakes.map(({ place, message }) => `${place}: ${message}`).join("; ")}.`,
    hint: "docs/configuration.md describes every variable.",
  });
}

/** A file that is named and missing is a mistake; that there is none is not. */
function foundFile(): string | undefined {
  try {
    return configFile(undefined, process.env, existsSync);
  } catch {
    return undefined;
  }
}
