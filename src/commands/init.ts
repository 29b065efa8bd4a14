import { routingKey } from "../messages/job-event.ts";
import { existsSync } from "node:fs";
import { Command } from "commander";
import { stringify } from "yaml";
import { requireOnline, Sessions, type FileSystems } from "../beamtime/session.ts";
import { errorText, MentoError, Misconfigured, Unavailable } from "../errors.ts";
import { describeBroker } from "../facility/rabbitmq.ts";
import { describeSlurm } from "../facility/slurm.ts";
import { describeSshd } from "../facility/sshd.ts";
import { placesOf, readState } from "../facility/state.ts";
import { knownHostsHere } from "../shells/known-hosts-here.ts";
import { writePlainFile } from "../files/plain-file.ts";
import { printLine } from "../text/terminal.ts";

/** Editors complete and check by it. */
const SCHEMA = new URL("../../schemas/mento-config.json", import.meta.url).href;

interface InitOptions {
  facility?: string;
  force?: true;
}

/** What differs from site to site. */
interface Site {
  brokerUrl: string;
  roots: FileSystems;
  knownHosts: string[];
  hosts: Record<string, { address: string; port: number }>;
}

export function initCommand(): Command {
  return new Command("init")

    .argument("[file]", "the file to write", "mento.yaml")
    .option("--facility <dir>", "for the facility on one machine that `mento facility up` has made there")
    .option("--force", "write over a file that exists")
    .action(init);
}

async function init(file: string, options: InitOptions): Promise<void> {
  if (existsSync(file) && options.force !== true) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: `${file} exists.`,
      hint: "Name another file, or write over it with --force.",
    });
  }
  const site = options.facility === undefined ? beamlineSite() : await facilitySite(options.facility);
  writeConfiguration(file, configurationFor(site, await keysFor(site.roots)));
  printLine(`wrote ${file}`);
  printLine(await sayWhatIsOpen(site.roots));
  printLine(`Next: mento validate ${file}, then mento worker -c ${file}`);
}

function writeConfiguration(file: string, text: string): void {
  try {
    // It may hold the broker's password.
    writePlainFile(file, text, { links: "follow", mode: 0o600 });
  } catch (cause) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: `${file === "" ? "A file without a name" : file} cannot be written: ${errorText(cause)}.`,
      hint: "Name a file in a folder that is there and can be written in.",
      cause,
    });
  }
}

const USUAL_BROKER = "amqp://guest:guest@127.0.0.1:5672";

async function facilitySite(dir: string): Promise<Site> {
  const state = readState(dir);
  if (state === undefined) {
    throw new Unavailable({
      code: "facility-not-up",
      message: `There is no facility in ${dir}.`,
      hint: `Make one with: mento facility up --dir ${dir}`,
    });
  }
  const { address, port, knownHosts } = await describeSshd(state);
  const { gpfs, beamline, core } = placesOf(state.dir);
  return {
    brokerUrl: state.hasBroker === false ? USUAL_BROKER : describeBroker(state).url,
    roots: { gpfs, beamline, core },
    knownHosts: [knownHosts],
    hosts: Object.fromEntries(describeSlurm(state).nodes.map(({ name }) => [name, { address, port }])),
  };
}

function beamlineSite(): Site {
  return {
    brokerUrl: USUAL_BROKER,
    roots: { gpfs: "/gpfs", beamline: "/beamline", core: "/asap3" },
    knownHosts: knownHostsHere(),
    hosts: {},
  };
}

/** Of the beamline whose session is open; all, if there is none, or more than one beamline's. */
async function keysFor(roots: FileSystems): Promise<string[]> {
  const { open } = await new Sessions(roots, () => undefined).open();
  const [first, ...others] = new Set(open.map(({ beamline }) => routingKey(beamline, null, "#")));
  const [word] = first?.split(".") ?? [];
  return word === undefined || others.length > 0 ? ["#"] : [`${word}.#`, "-.#"];
}

async function sayWhatIsOpen(roots: FileSystems): Promise<string> {
  try {
    const { kind, id, beamline, online } = requireOnline(
      await new Sessions(roots, () => undefined).find(undefined),
    );
    const names = online.reservations.map(({ name }) => name ?? "none").join(", ");
    const node = online.reservations[0]?.nodes[0] ?? "";
    return `Open: ${kind === "beamtime" ? kind : "commissioning run"} ${id} at ${beamline}; jobs run in reservation ${names} as ${online.account}, submitted on ${node}.`;
  } catch (error) {
    if (!(error instanceof MentoError)) throw error;
    return `${error.message} A worker can start all the same; messages wait.`;
  }
}

function configurationFor(site: Site, keys: readonly string[]): string {
  const { brokerUrl, roots, knownHosts, hosts } = site;
  const hostLines = Object.keys(hosts).length === 0 ? "" : indent(stringify({ hosts }));
  return `# yaml-language-server: $schema=${SCHEMA}
# Mento's configuration. \`mento validate FILE\` checks it; docs/configuration.md describes every key.
# Any value can also come from the environment: MENTO_BROKER_URL, MENTO_WORKER_GROUP, …

broker:
  url: ${JSON.stringify(brokerUrl)}
  # passwordFile: /etc/mento/rabbitmq-password   # instead of a password in the url

worker:
  group: default      # workers of one group share its messages; another group gets its own copy of each
  keys: ${JSON.stringify(keys)}   # routing keys to take; ["p11.#", "-.#"]: of one beamline, and those that name none; ["#"]: all
  concurrency: 8      # messages of one session handled at the same time

# Where the file systems are, as this host sees them.
site:
  gpfs: ${JSON.stringify(roots.gpfs)}          # the beamline's; the open beamtime is in current/
  beamline: ${JSON.stringify(roots.beamline)}  # where reserved nodes mount it
  core: ${JSON.stringify(roots.core)}          # the core file system

# Jobs are submitted over SSH, on the first of the beamtime's reserved nodes that answers, with its account and key.
ssh:
  knownHosts: ${JSON.stringify(knownHosts)}   # host keys are always checked
  # hostKeys: { max-p11-001: ["SHA256:…"] }   # or accept exactly these, as ssh-keygen -lf prints them
  # acceptNewHostKeys: true                   # accept a new node's key, and expect it until the session ends
${hostLines || "  # hosts: { max-p11-001: { address: 10.0.0.1, port: 22 } }   # if a node's name is not its address\n"}
# What runs when data is ready. Every argument stands on its own; nothing goes through a shell.
triggers:
  - name: checksum
    on:
      path: "**/raw/**"               # every path of the message must fit
      # technique: [saxs, waxs]       # and so must every field given here
    # unless: { parameters: { dark: true } }   # what fits this does not start it
    run: [/usr/bin/sha256sum, "{{ path }}"]   # also: {{ paths }} {{ results }} {{ parameters.NAME }} …
    slurm:
      time: "00:10:00"
      # timeMin: "00:05:00"           # that will do if the reservation ends sooner
      # constraint: gpu               # only reservations with such nodes
      # fallback: fail                # if no reservation fits; default: wait for one
      # cpusPerTask: 8
    results: ["**"]                   # which new files in {{ results }} are announced
    # companions: true                # an HDF5 master waits for its *_data_* files
    # dataTimeout: 600                # seconds to wait for the data to reach the core file system
`;
}

function indent(yaml: string): string {
  return yaml
    .split("\n")
    .map((line) => (line === "" ? "" : `  ${line}`))
    .join("\n");
}
