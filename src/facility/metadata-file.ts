import type { OpenSession, Reservation } from "./state.ts";

/** What the metadata file says that differs from session to session. */
export interface SessionFacts {
  session: Pick<
    OpenSession,
    "kind" | "id" | "beamline" | "tag" | "proposalType" | "asapo" | "corePath" | "account" | "reservations"
  >;
  eventStart: Date;
  eventEnd: Date;
  generated: Date;
}

/** Relative to the metadata file's own directory, on both file systems. */
export const PRIVATE_KEY_PATH = "shared/id_rsa";
export const PUBLIC_KEY_PATH = `${PRIVATE_KEY_PATH}.pub`;
export const ASAPO_TOKEN_PATH = "shared/asapo-token.txt";
export const ASAPO_READ_TOKEN_PATH = "shared/asapo-token-clbt.txt";

/** Nobody listens there: a facility has no ASAP::O. */
const ASAPO_ENDPOINT = "127.0.0.1:8400";

export function metadataFileName({ kind, id }: Pick<OpenSession, "kind" | "id">): string {
  return `${kind}-metadata-${id}.json`;
}

/** The metadata file's content, in the format that the facility has written since 2022. */
export function metadataText(facts: SessionFacts): string {
  const metadata = facts.session.kind === "beamtime" ? beamtime(facts) : commissioning(facts);
  return `${JSON.stringify(metadata, undefined, 4)}\n`;
}

/** The people are invented. */
function beamtime({ session, eventStart, eventEnd, generated }: SessionFacts) {
  return {
    applicant: person("Anna", "Dampf", "1337"),
    ...asapo(session),
    beamline: session.beamline,
    beamlineAlias: session.beamline.toUpperCase(),
    beamlineSetup: "Crystallography (1-axis goniostat)",
    beamtimeId: session.id,
    contact: "Hans Dampf",
    corePath: session.corePath,
    eventEnd: localTime(eventEnd),
    eventStart: localTime(eventStart),
    facility: "PETRA III",
    generated: localTime(generated),
    leader: person("Hans", "Dampf", "1338"),
    ...onlineAnalysis(session),
    pi: person("Doris", "Dampf", "8564"),
    proposalId: "20210001",
    proposalType: session.proposalType,
    retentionPeriod: "default",
    title: "A beamtime of a facility on one machine",
    unixId: "None",
    users: { doorDb: ["hdampf", "adampf"], special: [], unknown: [] },
  };
}

/** The smaller document of a commissioning run: `id`, and the beamline in upper case. */
function commissioning({ session, generated }: SessionFacts) {
  return {
    ...asapo(session),
    beamline: session.beamline.toUpperCase(),
    corePath: session.corePath,
    generated: localTime(generated),
    id: session.id,
    ...onlineAnalysis(session),
    tag: session.tag,
  };
}

function asapo(session: SessionFacts["session"]) {
  if (!session.asapo) return {};
  return {
    asapo: {
      beamtimeClbtTokenPath: ASAPO_READ_TOKEN_PATH,
      beamtimeTokenPath: ASAPO_TOKEN_PATH,
      endpoint: ASAPO_ENDPOINT,
    },
  };
}

function onlineAnalysis({ account, reservations }: SessionFacts["session"]) {
  if (account === null) return {};
  return {
    onlineAnalysis: {
      ...reserved(reservations),
      userAccount: account.name,
      sshPrivateKeyPath: PRIVATE_KEY_PATH,
      sshPublicKeyPath: PUBLIC_KEY_PATH,
    },
  };
}

/** No public file shows more than one reservation: then each of the three is a list, and they belong together by place. */
function reserved(reservations: readonly Reservation[]) {
  const [only, ...others] = reservations;
  if (only !== undefined && others.length === 0) {
    return { reservedNodes: only.nodes, slurmPartition: only.partition, slurmReservation: only.name };
  }
  return {
    reservedNodes: reservations.map(({ nodes }) => nodes),
    slurmPartition: reservations.map(({ partition }) => partition),
    slurmReservation: reservations.map(({ name }) => name),
  };
}

function person(firstName: string, lastname: string, userId: string) {
  const username = `${firstName.charAt(0)}_${lastname}`;
  return { email: `${username.toLowerCase()}@example.org`, institute: "DESY", lastname, userId, username };
}

/** `2022-04-04 09:00:00`: local time without a zone, as the facility writes it. */
function localTime(time: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${date} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":")}`;
}
