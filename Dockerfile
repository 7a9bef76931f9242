# The service in a container. `docker build -t mlproject:0.1.0 .`, then
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -e MLPROJECT_SERVING_UNGUARDED=yes \
#     -v "$PWD/build/survey/extended:/mnt/models:ro" mlproject:0.1.0
# The first stage installs the locked versions and our wheel into a virtual environment; the second one holds that environment and
# nothing that builds. No torch, pandas or pyarrow: requirements-serve.lock is the `serve` extra alone (`make lock-serve`), and a
# test installs it into an empty environment and serves from there. To pin the base by content, pass its digest:
#   --build-arg BASE=python:3.11-slim-bookworm@sha256:…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/mlproject
# The slow layer first: it is built again only when a version changes. --no-deps: nothing but what is locked; wheels only, so that
# no compiler is needed and no package runs code of its own while it is installed.
COPY requirements-serve.lock ./
RUN pip --python /opt/mlproject/bin/python install --no-deps --only-binary :all: -r requirements-serve.lock
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN grep '^setuptools==' requirements.lock > tools.txt && pip install --no-deps -r tools.txt
COPY mlproject/ mlproject/
RUN pip wheel --no-deps --no-build-isolation -w dist . \
 && pip --python /opt/mlproject/bin/python install --no-deps dist/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="mlproject" \
      org.opencontainers.image.description="Animal species of photos: REST, gRPC, Open Inference Protocol" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/mlproject /opt/mlproject
# Byte code was made above, so nothing needs to be written at run time: the root may be read-only. ONNX Runtime's threads are ours.
ENV PATH=/opt/mlproject/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 HOME=/tmp
# Inside a container every interface is the container's own; what is published is decided outside (-p, a Service). So the service
# wants API keys in /etc/mlproject/keys.json, or to be told MLPROJECT_SERVING_UNGUARDED=yes.
ENV MLPROJECT_SERVING_HOST=0.0.0.0 MLPROJECT_SERVING_PORT=8000 MLPROJECT_SERVING_GRPC_PORT=8001 \
    MLPROJECT_SERVING_KEYS=/etc/mlproject/keys.json MLPROJECT_SERVING_LOG=stdout MLPROJECT_DOWNLOADS=no
# A number, not a name: Kubernetes can then check by itself that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# Ready: a golden photo has just gone through the real path. No curl in the image, and none needed.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --start-interval=1s --retries=3 \
    CMD ["python", "-S", "-E", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT ["mlproject", "serve"]
CMD ["--model", "/mnt/models"]
