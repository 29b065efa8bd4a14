import { describe, expect, it } from "vitest";
import { topologyFor } from "../../src/broker/topology.ts";
import { checkPolicies, costsOf, type QueueUse } from "../../src/doctor/broker-policies.ts";

describe("a policy costs", () => {
  it.each<[QueueUse, object, string]>([
    ["jobs", { "delivery-limit": 1 }, "its end is not announced"],
    ["messages", { "delivery-limit": 3 }, "becomes a dead letter"],
    ["jobs", { "message-ttl": 60_000 }, "message-ttl 60 s: of a job"],
    ["dead", { "message-ttl": 86_400_000 }, "1 d 0 h: a dead letter is gone"],
    ["history", { "max-length-bytes": 1_000 }, "a slow subscriber misses"],
    ["history", { "max-age": "1D" }, "max-age 1D: a slow subscriber"],
    ["messages", { "max-length": 10 }, "refuses what is published"],
    ["waits", { expires: 1_000 }, "deleted with all in it"],
    ["triggerQueues", { "consumer-timeout": 60_000 }, "loses its connection"],
  ])("on %s with %j", (use, definition, cost) => {
    expect(costsOf(use, definition as Record<string, unknown>)).toEqual([expect.stringContaining(cost)]);
  });

  it.each<[QueueUse, object]>([
    ["jobs", {}],
    ["jobs", { "delivery-limit": 20 }],
    ["jobs", { "delivery-limit": -1 }],
    ["dead", { "delivery-limit": 1 }],
    ["messages", { "dead-letter-exchange": "x", overflow: "drop-head", "queue-leader-locator": "balanced" }],
    ["jobs", { "consumer-timeout": 1_800_000 }],
    ["messages", { "message-ttl": "odd" }],
  ])("nothing on %s with %j", (use, definition) => {
    expect(costsOf(use, definition as Record<string, unknown>)).toEqual([]);
  });
});

it("says that it cannot see policies, and how to, where RabbitMQ's management does not answer", async () => {
  const address = { url: "amqp://127.0.0.1:1", managementUrl: "http://127.0.0.1:1", name: "test" };
  const found = await checkPolicies(address, topologyFor("mento", "default"), []);
  expect(found).toMatchObject({ state: "skipped" });
  expect(found.message).toContain("rabbitmqctl list_policies");
});
