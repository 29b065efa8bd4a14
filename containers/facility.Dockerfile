# What the tests start their facilities and brokers in: the image `slurm` with a RabbitMQ and the tests' clients.
ARG SLURM_IMAGE=mento-slurm
FROM ${SLURM_IMAGE}
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
  rabbitmq-server python3-pika procps && rm -rf /var/lib/apt/lists/*
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["sleep", "infinity"]
