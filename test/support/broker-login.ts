import { randomUUID } from "node:crypto";
import { askBroker, VHOST } from "./ask-broker.ts";
import { facility } from "./site.ts";

/** Which names a login may make, publish to, and consume: regular expressions. */
export interface Permissions {
  configure: string;
  write: string;
  read: string;
}

export interface BrokerLogin {
  url: string;
  remove: () => Promise<unknown>;
}

/** A login of RabbitMQ's that is no administrator, on the tests' broker. */
export async function brokerLogin(permissions: Permissions): Promise<BrokerLogin> {
  const name = `login-${randomUUID().slice(0, 8)}`;
  await askBroker("PUT", `users/${name}`, { password: "secret", tags: "" });
  await askBroker("PUT", `permissions/${VHOST}/${name}`, permissions);
  const own = new URL(facility.broker.url);
  own.username = name;
  own.password = "secret";
  return { url: own.href, remove: () => askBroker("DELETE", `users/${name}`) };
}
