# What the tests start their facilities and brokers in: the servers of the image `slurm`, with a RabbitMQ.
ARG SERVERS_IMAGE=mento-servers
FROM ${SERVERS_IMAGE}
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
  rabbitmq-server python3-pika procps && rm -rf /var/lib/apt/lists/*
ENTRYPOINT ["tini", "--"]
CMD ["sleep", "infinity"]
