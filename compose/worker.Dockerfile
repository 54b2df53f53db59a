# A worker: docker build -f compose/worker.Dockerfile -t orka-worker .   (from the root of the repository)
#
# Your own agents: --build-arg EXTRA="my-agents" installs more, or build FROM this image; then `--import my_agents`.
# With EXTRA="wordllama>=0.3.9,<0.5" `classify` works too.
FROM python:3.12-slim AS build
ARG EXTRA=""
COPY . /source
RUN python -m venv /opt/orka && /opt/orka/bin/pip install --no-cache-dir /source ${EXTRA}

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/orka orka && install -d -o orka /var/lib/orka
COPY --from=build /opt/orka /opt/orka
COPY compose/health.py /opt/orka/health.py
ENV PATH=/opt/orka/bin:$PATH PYTHONUNBUFFERED=1 ORKA_LOG_FORMAT=json ORKA_LOG_LEVEL=info
WORKDIR /var/lib/orka
USER 10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "/opt/orka/health.py", "/var/lib/orka/health.json"]
ENTRYPOINT ["orka", "worker", "--health", "/var/lib/orka/health.json"]
CMD ["--grace", "30"]
