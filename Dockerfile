# usher in a container: one static binary, nothing else to run, an ordinary user.
#
#   docker build -t usher --build-arg VERSION="$(git describe --tags --always --dirty)" .
#   docker run --read-only -p 8080:8080 usher :8080=app:80
#   docker run --read-only -p 8080:8080 -v "$PWD/usher.yaml:/etc/usher/usher.yaml:ro" usher -c /etc/usher/usher.yaml
#
# podman and buildah keep the HEALTHCHECK with --format docker alone.
#
# A backend on 127.0.0.1 is one of the container itself. "docker exec NAME /usher ls" and all other commands ask the
# usher in it.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags="-s -w -X usher/internal/version.stamped=$VERSION" -o usher .
RUN go run ./bench/release -licenses THIRD_PARTY_LICENSES

FROM scratch
ARG VERSION=devel
LABEL org.opencontainers.image.title="usher" \
      org.opencontainers.image.description="Layer-4 load balancer for TCP and UDP that needs no root" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
# For health checks by https and tcps.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/LICENSE /src/THIRD_PARTY_LICENSES /licenses/
COPY --from=build /src/usher /usher
# The control socket needs a folder that can be written. Every engine mounts /dev/shm, also with --read-only.
ENV TMPDIR=/dev/shm
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/usher", "ready"]
ENTRYPOINT ["/usher"]
