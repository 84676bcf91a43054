# Two images from one file. `runtime`, the last stage and so the default, is what a platform runs on: Python, the locked
# packages and this one. `dev` adds poetry, the tests and all that they need.

FROM python:3.11-slim-bookworm AS base
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# A named volume takes its owner from the folder that it covers first.
RUN useradd --no-log-init --uid 10001 --user-group --create-home --shell /usr/sbin/nologin workflow \
    && install --directory --owner=workflow --group=workflow /app /var/lib/workflow
EXPOSE 8001
# Alive, not ready: what watches a container must not end it because a broker is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8001, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["workflow", "api"]


FROM base AS dependencies
COPY requirements/runtime.txt /build/requirements/
RUN python -m venv --without-pip "$VIRTUAL_ENV" \
    && pip --python "$VIRTUAL_ENV" install --no-deps --require-hashes -r /build/requirements/runtime.txt


FROM dependencies AS build
WORKDIR /build
COPY requirements/dev.txt requirements/
# The build backend, too, comes as it is locked: its entry of the list, alone.
RUN sed -n '/^poetry-core==/,/[^\\]$/p' requirements/dev.txt > requirements/backend.txt \
    && python -m venv /opt/builder \
    && /opt/builder/bin/pip install --no-deps --require-hashes -r requirements/backend.txt
COPY pyproject.toml LICENSE ./
COPY schemas schemas
COPY streams streams
COPY projections projections
COPY api api
COPY ops ops
RUN /opt/builder/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python "$VIRTUAL_ENV" install --no-deps dist/*.whl


FROM dependencies AS dev
RUN python -m venv /opt/poetry \
    && /opt/poetry/bin/pip install poetry==2.5.1 \
    && ln -s /opt/poetry/bin/poetry /usr/local/bin/poetry
# The compose file makes all but /tmp and the home folder read-only.
ENV PYTEST_ADDOPTS="-o cache_dir=/tmp/pytest-cache" \
    HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
WORKDIR /app
COPY pyproject.toml poetry.lock LICENSE ./
RUN poetry install --no-interaction --no-cache --no-root
COPY --chown=workflow:workflow . .
RUN poetry install --no-interaction --no-cache --only-root
USER 10001:10001


FROM base AS runtime
# One port for the probes of every role, so that one health check does for all of them.
ENV API_HOST=0.0.0.0 \
    API_PORT=8001 \
    WORKFLOW_HEALTH_PORT=8001 \
    STORAGE_PATH=/var/lib/workflow/store
COPY --from=build /opt/venv /opt/venv
WORKDIR /var/lib/workflow
USER 10001:10001
