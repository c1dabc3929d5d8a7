# Builds the static binary and nothing else; the image holds no shell.
#
#   docker build --build-arg DAVIT_VERSION=$(git describe --tags --always) --build-arg DAVIT_REVISION=$(git rev-parse HEAD) .
#
# holds the same binary as a release of that commit (release/binary).
FROM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG DAVIT_VERSION=devel DAVIT_REVISION=
RUN DAVIT_VERSION="$DAVIT_VERSION" DAVIT_REVISION="$DAVIT_REVISION" release/binary /out/davit && mkdir -p /out/data

FROM scratch
COPY --from=build /out/davit /davit
# The data folder belongs to the user that the service runs as.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
EXPOSE 1883 8080
# Settings are variables, so that others win over them: -e DAVIT_HTTP=..., or a file by DAVIT_CONFIG (docs/configuration.md).
# Nobody logs in with a password from elsewhere unless DAVIT_PASSWORDS=on is added, which is for a lab (docs/security.md).
ENV DAVIT_DATA=/data DAVIT_MQTT=0.0.0.0:1883 DAVIT_HTTP=0.0.0.0:8080 DAVIT_SERVER=http://127.0.0.1:8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/davit", "health"]
ENTRYPOINT ["/davit"]
CMD ["serve"]
