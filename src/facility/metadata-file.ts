/** What the metadata file says that differs from beamtime to beamtime. */
export interface BeamtimeFacts {
  beamtimeId: string;
  beamline: string;
  corePath: string;
  eventStart: Date;
  eventEnd: Date;
  generated: Date;
  onlineAnalysis?: {
    reservedNodes: readonly string[];
    slurmPartition: string;
    slurmReservation: string;
    userAccount: string;
  };
}

/** Relative to the metadata file's own directory, on both file systems. */
export const PRIVATE_KEY_PATH = "shared/id_rsa";
export const PUBLIC_KEY_PATH = `${PRIVATE_KEY_PATH}.pub`;

export function metadataFileName(beamtimeId: string): string {
  return `beamtime-metadata-${beamtimeId}.json`;
}

/** The metadata file's content, in the format that the facility has written since 2022. The people are invented. */
export function metadataText(facts: BeamtimeFacts): string {
  const { onlineAnalysis } = facts;
  const metadata = {
    applicant: person("Anna", "Dampf", "1337"),
    beamline: facts.beamline,
    beamlineAlias: facts.beamline.toUpperCase(),
    beamlineSetup: "Crystallography (1-axis goniostat)",
    beamtimeId: facts.beamtimeId,
    contact: "Hans Dampf",
    corePath: facts.corePath,
    eventEnd: localTime(facts.eventEnd),
    eventStart: localTime(facts.eventStart),
    facility: "PETRA III",
    generated: localTime(facts.generated),
    leader: person("Hans", "Dampf", "1338"),
    ...(onlineAnalysis && {
      onlineAnalysis: {
        ...onlineAnalysis,
        sshPrivateKeyPath: PRIVATE_KEY_PATH,
        sshPublicKeyPath: PUBLIC_KEY_PATH,
      },
    }),
    pi: person("Doris", "Dampf", "8564"),
    proposalId: "20210001",
    proposalType: "H",
    retentionPeriod: "default",
    title: "A beamtime of a facility on one machine",
    unixId: "None",
    users: { doorDb: ["hdampf", "adampf"], special: [], unknown: [] },
  };
  return `${JSON.stringify(metadata, undefined, 4)}\n`;
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
