# The image of falco-correlator: Python, the libraries that it loads, our package. No shell, no package manager.
#
#   make image                  builds it here, wheels from the package index
#   docker build .              the same by hand
#
# The base is pinned by the digest of its multi-architecture index, as docker-library/repo-info listed it on 2026-08-25
# (Debian bookworm of 2026-08-24, Python 3.11.16). The release workflow looks the tag up again, says when it has moved,
# and refuses to go on when the digest is not to be had.
#
# The Falco plugin is copied to /plugin from dist/plugin/MACHINE, where `make plugin-dist` builds it for both machines and
# for a glibc of 2017, so Falco can load it wherever it runs. Without it the image lacks only the plugin.
#
# Reproducible: given the same base, the same wheels in dist/wheels and the same SOURCE_DATE_EPOCH, the same layers.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

FROM ${BASE} AS build
# With PIP_NO_INDEX=1 nothing is downloaded: all wheels must be in dist/wheels (make wheels).
ARG PIP_NO_INDEX
ARG SOURCE_DATE_EPOCH=0
WORKDIR /src
COPY . .
# Nothing is installed whose hash is not in the repository; what builds our wheel stays out of the image.
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_FIND_LINKS=dist/wheels
RUN python3 -m pip install --require-hashes --requirement docker/requirements.txt \
 && python3 -m pip install --require-hashes --requirement docker/build-requirements.txt --target /build \
 && PYTHONPATH=/build python3 -m pip install --no-deps --no-build-isolation . \
 && python3 docker/rootfs.py /image

FROM scratch
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="falco-correlator" \
      org.opencontainers.image.description="Correlates single Falco alerts into the few incidents that matter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
COPY --from=build /image /
ENV PATH=/usr/local/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
EXPOSE 2802 2812
ENTRYPOINT ["falco-correlator"]
CMD ["run"]
