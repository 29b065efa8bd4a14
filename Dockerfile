# The image of `mento`, and those of the facility around it that docker-compose.yml starts.
# Node on Debian 13; a site with a mirror, or without a registry in reach, names its own.
ARG NODE_IMAGE=node:24-trixie-slim
ARG DEBIAN_IMAGE=debian:trixie-slim

# A RabbitMQ of Debian's packages, where no registry has rabbitmq:4-management.
FROM ${DEBIAN_IMAGE} AS rabbitmq
RUN apt-get update && apt-get install --yes --no-install-recommends rabbitmq-server && rm -rf /var/lib/apt/lists/*
COPY containers/rabbitmq.conf /etc/rabbitmq/conf.d/mento.conf
COPY containers/rabbitmq-definitions.json /etc/rabbitmq/definitions.json
RUN echo '[rabbitmq_management].' > /etc/rabbitmq/enabled_plugins
ENV RABBITMQ_LOGS=-
VOLUME /var/lib/rabbitmq
EXPOSE 5672 15672
USER rabbitmq
CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]

FROM ${NODE_IMAGE} AS build
ARG NPM_CONFIG_REGISTRY
WORKDIR /opt/mento
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/bundle.mjs scripts/write-man.mjs scripts/
COPY src src
RUN npm run build && npm prune --omit=dev --no-audit --no-fund && chmod 755 dist/cli/main.js \
  && rm -rf src scripts tsconfig.json tsconfig.build.json dist/.tsbuildinfo package-lock.json
COPY LICENSE ./
COPY schemas schemas
COPY examples examples

# Node, without npm or anything that builds. What is orphaned in a container comes to its first process, which must take
# it away and hand signals on: that is tini.
FROM ${DEBIAN_IMAGE} AS node
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates tini && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/node /usr/local/bin/
RUN ln -s /opt/mento/dist/cli/main.js /usr/local/bin/mento
ENV NODE_ENV=production
ENTRYPOINT ["tini", "--"]

# What the facility runs, and the examples' programs need.
FROM node AS servers
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
  slurm-wlm slurmctld slurmd slurm-client slurmrestd slurm-wlm-jwt-plugin munge openssh-server openssh-client \
  python3-h5py python3-numpy python3-pyfai python3-matplotlib && rm -rf /var/lib/apt/lists/*

# munge, Slurm, slurmrestd, sshd, the two file systems and startBeamtime: `mento facility`.
FROM servers AS slurm
COPY --from=build /opt/mento /opt/mento
COPY containers/slurm.sh /usr/local/bin/mento-slurm
# The workers' number is no beamtime account's.
RUN useradd --uid 1000 --no-create-home mento
ENV SLURM_CONF=/facility/slurm/slurm.conf
VOLUME /facility
EXPOSE 2222 6820
HEALTHCHECK --interval=10s --timeout=20s --start-period=120s --retries=6 CMD ["mento-slurm", "is-ready"]
ENTRYPOINT ["tini", "--", "mento-slurm"]
CMD ["run"]

FROM node AS mento
RUN useradd --uid 1000 --create-home mento && install --directory --owner mento /work \
  && install --directory --mode 1777 /run/mento
COPY --from=build /opt/mento /opt/mento
USER mento
WORKDIR /work
ENV MENTO_WORKER_READY_FILE=/run/mento/ready
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["sh", "-c", "test -n \"$(find /run/mento/ready -newermt '-40 seconds')\""]
ENTRYPOINT ["tini", "--", "mento"]
CMD ["worker"]
