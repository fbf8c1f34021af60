FROM python:3.11-slim-bookworm AS build
# For a build behind a package mirror; the final image does not contain it. For a proxy, use Docker's own arguments.
ARG PIP_INDEX_URL
# Any value installs OpenTelemetry.
ARG TRACES
WORKDIR /build
COPY service/requirements.txt service/requirements-traces.txt ./
# TensorFlow's C++ headers and compiler library are for building against it: 350 MB that serving never reads.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements.txt \
        ${TRACES:+--requirement requirements-traces.txt} \
    && rm -rf /venv/lib/python3.11/site-packages/tensorflow/include \
        /venv/lib/python3.11/site-packages/clang \
        /venv/lib/python3.11/site-packages/pip
COPY service /srv/service
COPY model_artifacts /srv/model_artifacts
# The files of a clone under umask 077 are its owner's alone, and COPY keeps their modes.
RUN chmod -R u=rwX,go=rX /srv

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="neural-adder" \
      org.opencontainers.image.description="A recurrent encoder-decoder that answers addition queries over HTTP"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin adder
COPY --from=build /venv /venv
COPY --from=build /srv /srv
WORKDIR /srv
# TMPDIR: with a read-only root file system, TensorFlow's import and gunicorn's heartbeat still need a writable folder.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TMPDIR=/dev/shm ADDER_HOST=0.0.0.0
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; port = os.environ.get('ADDER_PORT') or os.environ.get('PORT') or '8000'; probe = http.client.HTTPConnection('127.0.0.1', 8000 if '://' in port else int(port), timeout=2); probe.request('GET', '/health/ready'); sys.exit(probe.getresponse().status != 200)"]
CMD ["gunicorn", "--config", "python:service.gunicorn_conf"]
