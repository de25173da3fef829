# One image for every role: `backline api`, `backline worker`. The Claude CLI comes with the claude-agent-sdk wheel.
FROM python:3.12-slim

RUN pip install --no-cache-dir 'uv>=0.9,<1'
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy PYTHONUNBUFFERED=1 PATH=/app/.venv/bin:$PATH
WORKDIR /app

# git: what agents reach for first; bubblewrap: what they run in, where the host allows it
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap ca-certificates git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 backline \
    && install -d -o backline -g backline /data

# Dependencies first: they change less often than the code
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --no-install-project
COPY api api
COPY worker worker
COPY shared shared
COPY cli cli
COPY scripted_model scripted_model
RUN uv sync --frozen --no-dev

USER backline
ENV BACKLINE_DATA_DIR=/data BACKLINE_LOG_FORMAT=json
VOLUME /data
ENTRYPOINT ["backline"]
CMD ["--help"]
