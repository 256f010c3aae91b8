# One image for webserver, daemon and command line; docker-compose.yml starts them together.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PM_DATA_DIR=/data \
    DAGSTER_HOME=/dagster \
    NUMBA_CACHE_DIR=/data/.numba

# pip compiles to bytecode as it installs, which halves the start of every process.
WORKDIR /build
COPY pyproject.toml constraints.txt README.md ./
COPY pm_pipeline ./pm_pipeline
RUN python -m pip install -c constraints.txt .

WORKDIR /app
COPY workspace.yaml ./
COPY examples ./examples
COPY dagster.yaml /dagster/dagster.yaml

RUN useradd --create-home --uid 1000 pm \
 && mkdir -p /data \
 && chown -R pm:pm /data /dagster
USER pm
VOLUME ["/data", "/dagster"]

EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:3000/server_info', timeout=4).raise_for_status()"]

CMD ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", "-w", "workspace.yaml"]
