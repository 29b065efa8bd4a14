import { describe, expect, it } from "vitest";
import { splitOperands, sshArguments } from "../../src/commands/ssh.ts";

describe("mento ssh's words", () => {
  it.each([
    [["max-1"], ["ssh", "max-1"], { node: "max-1", words: [] }],
    [["ls"], ["ssh", "--", "ls"], { node: undefined, words: ["ls"] }],
    [["max-1", "ls", "-l"], ["ssh", "max-1", "--", "ls", "-l"], { node: "max-1", words: ["ls", "-l"] }],
    [["echo", "--", "x"], ["ssh", "--", "echo", "--", "x"], { node: undefined, words: ["echo", "--", "x"] }],
    [[], ["ssh"], { node: undefined, words: [] }],
  ])("%j of %j", (operands, argv, expected) => {
    expect(splitOperands(operands, argv)).toEqual(expected);
  });

  it("a command without -- in front is refused: it could be meant as a node", () => {
    expect(() => splitOperands(["max-1", "ls"], ["ssh", "max-1", "ls"])).toThrow('"ls" is too much');
  });
});

describe("what ssh(1) is called with", () => {
  const target = {
    ...{ name: "max-1", address: "fe80::1%eth0", port: 2222, account: "bt1" },
    ...{ privateKey: Buffer.from("x"), privateKeyFile: "/k" },
  };
  const call = {
    ...{ target, words: [] as string[], isTerminal: true, connectTimeoutMs: 1500 },
    ...{ keyFile: "/run/a%20b.key", knownHostsFile: "/run/known hosts" },
  };

  it("nothing of the user's configuration, one key, one known host key", () => {
    const args = sshArguments(call);
    expect(args.slice(0, 2)).toEqual(["-F", "/dev/null"]);
    expect(args).toEqual(
      expect.arrayContaining([
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlias=max-1",
        "ConnectTimeout=2",
      ]),
    );
  });

  it("a % and a space in paths and addresses stay what they are", () => {
    expect(sshArguments(call)).toEqual(
      expect.arrayContaining([
        'IdentityFile="/run/a%%20b.key"',
        'UserKnownHostsFile="/run/known hosts"',
        "HostName=fe80::1%%eth0",
      ]),
    );
  });

  it("a terminal for a shell, if there is one here; for a command, one literal line", () => {
    expect(sshArguments(call).slice(-3)).toEqual(["-t", "--", "max-1"]);
    expect(sshArguments({ ...call, isTerminal: false }).slice(-3)).toEqual(["-T", "--", "max-1"]);
    const words = ["echo", "$HOME", "it's", ""];
    expect(sshArguments({ ...call, words }).slice(-3)).toEqual([
      "--",
      "max-1",
      String.raw`'echo' '$HOME' 'it'\''s' ''`,
    ]);
  });
});
