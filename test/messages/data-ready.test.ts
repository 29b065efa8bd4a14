import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import { validateDataReady } from "../../src/messages/data-ready.ts";
import { routingKey } from "../../src/messages/job-event.ts";

const event = (data: unknown, type = "mento.data.ready.v1") => ({
  specversion: "1.0" as const,
  id: "1",
  source: "/s",
  type,
  data,
});

function rejection(data: unknown, type?: string): Rejected {
  try {
    validateDataReady(event(data, type));
  } catch (error) {
    if (error instanceof Rejected) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("validateDataReady", () => {
  it("makes lists of one path and one size", () => {
    expect(validateDataReady(event({ path: "/a", bytes: 7 }))).toMatchObject({ paths: ["/a"], bytes: [7] });
  });

  it("takes paths of 262,144 characters in all", () => {
    const paths = Array.from({ length: 64 }, () => `/${"a".repeat(4095)}`);
    expect(validateDataReady(event({ path: paths })).paths).toHaveLength(64);
    expect(rejection({ path: [...paths, "/"] })).toMatchObject({
      code: "wrong-schema",
      message: expect.stringContaining("has 262145 characters in all; 262144 are the most") as string,
    });
  });

  it("names every mistake and its place", () => {
    const error = rejection({ path: 5, beamtimeId: "../x", filename: "a" });
    expect(error.code).toBe("wrong-schema");
    expect(error.message).toContain("data.path");
    expect(error.message).toContain("data.beamtimeId");
    expect(error.message).toContain("filename");
  });

  it("wants one size for each path", () => {
    expect(rejection({ path: ["/a", "/b"], bytes: [1] }).message).toContain("1 sizes for 2 paths");
  });

  it("tells a newer version from an unknown type", () => {
    expect(rejection({ path: "/a" }, "mento.data.ready.v9").code).toBe("unknown-version");
    expect(rejection({ path: "/a" }, "com.example.hello").code).toBe("unknown-type");
  });
});

describe("routingKey", () => {
  it("writes dots in names as dashes and an unknown part as a dash", () => {
    expect(routingKey("p02.1", "11010000", "data.ready")).toBe("p02-1.11010000.data.ready");
    expect(routingKey(null, "", "job.completed")).toBe("-.-.job.completed");
  });

  it("stays within AMQP's 255 bytes and one word a name, whatever the name", () => {
    const key = routingKey("ü".repeat(500), "#.*", "message.rejected");
    expect(Buffer.byteLength(key)).toBeLessThan(255);
    expect(key.split(".")).toHaveLength(4);
  });
});
