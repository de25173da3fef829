# One image for every role: `backline api`, `backline worker`. The Claude CLI comes with the claude-agent-sdk wheel.
FROM python:3.12-slim AS build
RUN pip install --no-cache-dir 'uv>=0.9,<1'
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /app
# Dependencies first: they change less often than the code
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --extra otel --no-install-project
COPY api api
COPY worker worker
COPY shared shared
COPY cli cli
COPY chaos chaos
COPY scripted_model scripted_model
RUN uv sync --frozen --no-dev --extra otel --no-editable

FROM python:3.12-slim
# git: what agents reach for first; bubblewrap: what they run in, where the host allows it. Unpinned: Debian drops
# a version as soon as it has mended it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap ca-certificates git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 backline \
    && install -d -o backline -g backline /data
COPY --from=build /app/.venv /app/.venv
# By number, so that a cluster can see that it is not root
USER 10001
WORKDIR /home/backline
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 BACKLINE_DATA_DIR=/data BACKLINE_LOG_FORMAT=json
VOLUME /data
ENTRYPOINT ["backline"]
CMD ["--help"]
