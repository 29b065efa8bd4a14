/** The AMQP properties that take part in a message's meaning. */
export interface MessageProperties {
  contentType?: string | undefined;
  contentEncoding?: string | undefined;
  messageId?: string | undefined;
  appId?: string | undefined;
  type?: string | undefined;
  /** Seconds since 1970, as AMQP has it. */
  timestamp?: number | undefined;
  /** The login that published it: RabbitMQ takes no other (https://www.rabbitmq.com/docs/validated-user-id). */
  userId?: string | undefined;
  /** As amqplib gives them; only CloudEvents attributes and the trace context are read. */
  headers?: Record<string, unknown> | undefined;
}
