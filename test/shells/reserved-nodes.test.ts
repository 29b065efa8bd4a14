import { describe, expect, it } from "vitest";
import { Deferred, Unavailable, type ErrorCode } from "../../src/errors.ts";
import { ReservedNodes, type NodeShell } from "../../src/shells/reserved-nodes.ts";

const unavailable = (code: ErrorCode) => new Unavailable({ code, message: code, hint: "" });

function open(...answers: (Error | "ok")[]) {
  const tried: number[] = [];
  const nodes = answers.map((_, index): NodeShell => ({
    host: `node${index}`,
    account: "a",
    run: () => {
      tried.push(index);
      const answer = answers[index];
      return answer === "ok"
        ? Promise.resolve({ code: 0, signal: null, stdout: Buffer.from(""), stderr: "" })
        : Promise.reject(answer ?? new Error("no node"));
    },
    close: () => undefined,
  }));
  return { shell: new ReservedNodes(nodes, "a"), tried, answers };
}

describe("the reserved nodes", () => {
  it("are tried in turn, and the one that answers is kept", async () => {
    const { shell, tried, answers } = open(unavailable("ssh-unreachable"), "ok", "ok");
    await shell.run("true");
    await shell.run("true");
    expect(tried).toEqual([0, 1, 1]);
    expect(shell.host).toBe("node1");
    answers[1] = unavailable("ssh-unreachable");
    await shell.run("true");
    expect(tried).toEqual([0, 1, 1, 1, 2]);
  });

  it("are taken in turn when the programs of one do not work, also while a command is under way on it", async () => {
    const { shell, tried } = open("ok", "ok");
    const underWay = shell.run("true");
    shell.leaveHost();
    await underWay;
    await shell.run("true");
    expect(tried).toEqual([0, 1]);
    shell.leaveHost();
    expect(shell.host).toBe("node0");
  });

  it("are not tried further when a command may have run", async () => {
    const lost = open(unavailable("ssh-lost"), "ok");
    await expect(lost.shell.run("true")).rejects.toMatchObject({ code: "ssh-lost" });
    expect(lost.tried).toEqual([0]);
  });

  it("are left for the next where the login is refused or the host key is wrong; what a person can mend is told", async () => {
    const refused = new Deferred({ code: "ssh-login-refused", message: "", hint: "", giveUpAfterSeconds: 1 });
    const { shell, tried } = open(refused, unavailable("host-key-changed"), "ok");
    await shell.run("true");
    expect(tried).toEqual([0, 1, 2]);
    const none = open(unavailable("ssh-unreachable"), refused);
    await expect(none.shell.run("true")).rejects.toMatchObject({ code: "ssh-login-refused" });
  });

  it("all away are an outage", async () => {
    const { shell, tried } = open(unavailable("ssh-unreachable"), unavailable("ssh-unreachable"));
    await expect(shell.run("true")).rejects.toMatchObject({ code: "ssh-unreachable" });
    expect(tried).toEqual([0, 1]);
  });
});
