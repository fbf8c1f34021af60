FROM python:3.11-slim-bookworm AS build
# What a build behind a mirror needs; it does not reach the image below. A proxy has Docker's own build arguments.
ARG PIP_INDEX_URL
# OpenTelemetry, where it is set.
ARG TRACES
WORKDIR /build
COPY service/requirements.txt service/requirements-traces.txt ./
# TensorFlow's C++ headers and the compiler's library are for building against it: 350 MB that serving never opens.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements.txt \
        ${TRACES:+--requirement requirements-traces.txt} \
    && rm -rf /venv/lib/python3.11/site-packages/tensorflow/include \
        /venv/lib/python3.11/site-packages/clang \
        /venv/lib/python3.11/site-packages/pip

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="neural-adder" \
      org.opencontainers.image.description="A recurrent encoder-decoder that answers addition queries over HTTP"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin adder
COPY --from=build /venv /venv
WORKDIR /srv
COPY service service
COPY model_artifacts model_artifacts
# TMPDIR: where the root file system is read-only, TensorFlow's import and gunicorn's heartbeat need a place to write.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TMPDIR=/dev/shm ADDER_HOST=0.0.0.0
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('ADDER_PORT', 8000)), timeout=2); probe.request('GET', '/health/ready'); sys.exit(probe.getresponse().status != 200)"]
CMD ["gunicorn", "--config", "python:service.gunicorn_conf"]
