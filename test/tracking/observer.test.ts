import { expect, it } from "vitest";
import type { OnlineSession, Sessions } from "../../src/beamtime/session.ts";
import type { MentoConfig } from "../../src/config/config.ts";
import type { TrackingRecord } from "../../src/tracking/tracking-record.ts";
import type { SessionShells } from "../../src/submission/session-shells.ts";
import type { Shell } from "../../src/shells/shell.ts";
import { Observers } from "../../src/tracking/observer.ts";

it("of a process on an unknown host the records alone are looked at, over the session's nodes", async () => {
  const shell: Shell = { host: "n", account: "a", run: () => Promise.reject(new Error("nothing is run")) };
  const opened: (string | undefined)[] = [];
  const shells = {
    open: (_: OnlineSession, destination?: string) => {
      opened.push(destination);
      return Promise.resolve(shell);
    },
  } as unknown as SessionShells;
  const roots = { core: "/c", beamline: "/b", node: "/n" };
  const sessions = { find: () => Promise.resolve({ online: {}, roots }) } as unknown as Sessions;
  const record = {
    data: { job: { method: "remote-command" }, session: { id: "1" }, process: { host: "", pid: 4711 } },
  } as TrackingRecord;
  const observer = await new Observers(shell, sessions, shells, null, {} as MentoConfig["site"]).of(record);
  expect(opened).toEqual([undefined]);
  expect(await observer.look([record])).toEqual(new Map());
});
