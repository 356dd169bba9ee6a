# One file for every image: docker build --target server|client-sklearn|client-torch|client-keras .
# Images hold code and nothing else: settings, tokens and keys come in at run time, by volumes and variables.

# pyproject.toml says which versions are installed:
# hadolint global ignore=DL3013

ARG PYTHON=3.12.12-slim-bookworm

# --- builds; what is installed lands in /opt/fedn, which the images below copy ---------------------

FROM python:${PYTHON} AS build
RUN python -m venv /opt/fedn
ENV PATH=/opt/fedn/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fedn fedn

FROM build AS built-server
RUN --mount=type=cache,target=/root/.cache/pip pip install '.[reducer,combiner,mongo,s3]'

FROM build AS built-sklearn
RUN --mount=type=cache,target=/root/.cache/pip pip install '.[sklearn]'

FROM build AS built-torch
# On x86 plain torch brings CUDA, several GB. For CPUs alone name that build's index in TORCH_INDEX.
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/pip PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install '.[torch]'

FROM build AS built-keras
RUN --mount=type=cache,target=/root/.cache/pip pip install '.[keras]'

# --- images ----------------------------------------------------------------------------------------

FROM python:${PYTHON} AS base
# A volume takes the owner and the rights of the folder that it is first mounted at: here is where they are set.
RUN groupadd --gid 10001 fedn \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp fedn \
    && install --directory --owner=10001 --group=10001 --mode=0700 /admin /data /invites /network /state
ENV PATH=/opt/fedn/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
WORKDIR /state
ENTRYPOINT ["fedn"]
CMD ["--help"]

FROM base AS server
COPY --from=built-server /opt/fedn /opt/fedn
# The reducer of FEDN_URL; a combiner's is named where it is started (combiner.yaml).
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["fedn", "health"]

# Clients open no port. One that can't go on ends, and its container with it: there is nothing else to ask.
FROM base AS client-sklearn
COPY --from=built-sklearn /opt/fedn /opt/fedn
HEALTHCHECK NONE

FROM base AS client-torch
COPY --from=built-torch /opt/fedn /opt/fedn
HEALTHCHECK NONE

FROM base AS client-keras
COPY --from=built-keras /opt/fedn /opt/fedn
HEALTHCHECK NONE
