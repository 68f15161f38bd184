# An image for training on several machines by the MPI operator of Kubernetes: docs/scaling.md
#   docker build -t sgemoe-training -f deploy/training.Dockerfile deploy
FROM node:22-bookworm-slim
# What npm installs: a version, such as sgemoe@0.1.0, or a tarball that `npm pack` has put beside this file.
ARG SGEMOE=sgemoe
RUN apt-get update && apt-get install --yes --no-install-recommends openmpi-bin openssh-client openssh-server \
  && rm -rf /var/lib/apt/lists/* && mkdir -p /run/sshd
# The launcher starts ranks over ssh. The operator makes the keys for each job, so no host is known beforehand.
RUN printf '%s\n' 'Port 2222' 'StrictHostKeyChecking no' 'UserKnownHostsFile /dev/null' 'LogLevel ERROR' >> /etc/ssh/ssh_config \
  && printf '%s\n' 'Port 2222' 'HostKey /home/node/.ssh/id_rsa' 'PidFile /tmp/sshd.pid' 'UsePAM no' 'StrictModes no' \
    'PasswordAuthentication no' > /etc/ssh/sgemoe_sshd_config
WORKDIR /app
COPY . .
RUN npm init --yes && npm install --omit=dev --no-audit --no-fund "$SGEMOE" && npx sgemoe prune \
  && ln -s /app/node_modules/.bin/sgemoe /usr/local/bin/sgemoe
USER 1000:1000
CMD ["/usr/sbin/sshd", "-De", "-f", "/etc/ssh/sgemoe_sshd_config"]
