# The platform, for heads and workers of a Ray cluster. From the root of the repository:
#     docker build -f infra/docker/study.Dockerfile -t study:cpu .
#     docker build -f infra/docker/study.Dockerfile -t study:cuda \
#         --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# Versions are those of constraints.txt. The CUDA libraries come with torch's wheel, so both
# images have one base; the host brings the driver and the NVIDIA container toolkit.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python -m venv /opt/study
ENV PATH=/opt/study/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt requirements-torch.lock ./
RUN pip install --no-deps --index-url "${TORCH_INDEX}" -r requirements-torch.lock
# What is needed changes seldom, the package often: it comes last, in a layer of its own.
COPY pyproject.toml README.md LICENSE ./
COPY study/__init__.py study/__init__.py
RUN pip install -c constraints.txt '.[cluster]'

FROM build AS package
COPY study study
RUN pip install --no-deps --force-reinstall --target /package .

FROM ${PYTHON}
# wget: KubeRay's probes call it. Debian keeps one version of a package, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home study
COPY --from=build /opt/study /opt/study
COPY --from=package /package /opt/study/lib/python3.11/site-packages
COPY search_spaces /home/study/search_spaces
ENV PATH=/opt/study/bin:$PATH \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_AUTH_MODE=token
USER 1000
WORKDIR /home/study
CMD ["study", "--help"]
