import { existsSync } from "node:fs";
import { connectBroker, type BrokerClient } from "../broker/client.ts";
import { brokerCredentials, configFile, loadConfig, type MentoConfig } from "../config/config.ts";
import type { MentoError } from "../errors.ts";
import { sayLine } from "../text/terminal.ts";

/** `-c` of every command that needs a configuration. */
export const CONFIG_OPTION = [
  "-c, --config <file>",
  "the configuration (default: $MENTO_CONFIG, ./mento.yaml, /etc/mento/mento.yaml)",
] as const;

export function openConfig(option: string | undefined): MentoConfig {
  return loadConfig(configFile(option, process.env, existsSync), process.env);
}

/** A broker that is short of memory or disk takes publishes only later: then the command says what it waits for. */
export async function connectFromConfig(config: MentoConfig, purpose: string): Promise<BrokerClient> {
  const { url, prefix } = config.broker;
  const client = await connectBroker({
    url,
    prefix,
    ...brokerCredentials(config.broker),
    name: `mento ${purpose}`,
  });
  void client.link.whenBlocked().then((reason) => {
    if (reason === undefined) return;
    sayLine(
      `mento: RabbitMQ takes no messages for the moment (${reason}): nothing is processed until it does.`,
    );
  });
  return client;
}

/** Says on stderr when the broker is lost while a command listens, or has no history yet, once a reason, and when it is there. */
export function tellFailures(): (failure: MentoError | undefined) => void {
  let said: MentoError | undefined;
  const isFirst = () => said?.code === "exchange-missing";
  return (failure) => {
    if (failure?.code === "events-missed") {
      sayLine(`mento: ${failure.message}`);
      return;
    }
    if (failure === undefined) {
      sayLine(`mento: ${isFirst() ? "a worker has started" : "connected again"}; no event is missed.`);
    } else if (failure.message !== said?.message) {
      const does = failure.code === "exchange-missing" ? "Waiting for the first worker" : "Connecting again";
      sayLine(`mento: ${failure.message} ${does} …`);
    }
    said = failure;
  };
}
