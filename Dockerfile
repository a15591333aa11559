# syntax=docker/dockerfile:1

# Two images: `node` (the last, so the default) runs a node and every other command of tidegate; `load` is the load test.
# Both hold a virtual environment of locked wheels and nothing that builds.

# --- the page's libraries, as `make page` brings them -------------------------------------------------------------
FROM node:24.19.0-trixie-slim AS page
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY scripts/vendor.mjs scripts/
RUN node scripts/vendor.mjs

# --- what runs a node ---------------------------------------------------------------------------------------------
FROM python:3.13.15-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/tidegate
COPY requirements/run.txt requirements/
RUN pip --python /opt/tidegate/bin/python install --require-hashes --only-binary=:all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY node node
COPY --from=page /build/node/edge/web/vendor node/edge/web/vendor
# setuptools is in the lock to build this one package, and has no use behind it.
RUN pip --python /opt/tidegate/bin/python install --no-deps --no-build-isolation . \
    && pip --python /opt/tidegate/bin/python uninstall --yes setuptools
COPY deploy/probe.py /opt/tidegate/

# --- what runs the load test --------------------------------------------------------------------------------------
FROM python:3.13.15-slim-trixie AS load-build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/load
COPY requirements/load.txt requirements/
RUN pip --python /opt/load/bin/python install --require-hashes --only-binary=:all: -r requirements/load.txt

FROM python:3.13.15-slim-trixie AS load
COPY --from=load-build /opt/load /opt/load
COPY loadtest /srv/loadtest
ENV PATH=/opt/load/bin:$PATH PYTHONPATH=/srv PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /srv
STOPSIGNAL SIGTERM
ENTRYPOINT ["locust", "-f", "loadtest/locustfile.py"]
CMD ["--help"]

# --- a node -------------------------------------------------------------------------------------------------------
FROM python:3.13.15-slim-trixie AS node
LABEL org.opencontainers.image.title="tidegate" org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 tidegate \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /var/lib/tidegate --shell /usr/sbin/nologin tidegate \
    && install --directory --owner 10001 --group 10001 --mode 0750 /var/lib/tidegate
COPY --from=build /opt/tidegate /opt/tidegate
# Not TIDEGATE_LOG: whoever gives it by file could not take this one back.
ENV PATH=/opt/tidegate/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    TIDEGATE_HOST=0.0.0.0 TIDEGATE_PORT=8001 TIDEGATE_DATA=/var/lib/tidegate
USER 10001:10001
WORKDIR /var/lib/tidegate
EXPOSE 8001
STOPSIGNAL SIGTERM
# Alive, not ready: a node that waits for its log is not to be started again.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "/opt/tidegate/probe.py", "/healthz"]
ENTRYPOINT ["tidegate"]
CMD ["node"]
