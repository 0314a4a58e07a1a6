# Build with: docker build -t voicemail-archiver .
# With the embedded queue and the page /docs: docker build --build-arg OMIT=dev -t voicemail-archiver .
# Node.js 24.18, by digest: the tag moves, what was tested does not. Renew all these lines together.
FROM node:24-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The image has the right Node already, so the one that npm would bring along is left out with the install scripts.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
# Without the type declarations, which only the npm package needs.
RUN npm run build && find dist -name '*.d.ts' -delete && chmod 755 dist/cli.js

FROM node:24-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d AS modules
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# "optional" are PGlite (the embedded queue: 27 MB) and Swagger UI (/docs); where one is wanted, the program names it.
ARG OMIT="dev optional"
RUN npm ci --ignore-scripts $(for kind in $OMIT; do echo --omit=$kind; done)

FROM node:24-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Voicemail Archiver" \
  org.opencontainers.image.description="Saves Kore.ai voicemails into S3 before their signed URLs expire" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION"
# What is archived must not end with the container: QUEUE_URL and ARCHIVE_URL have to be set.
# The last two keep memory small: V8 frees audio sooner, and the C library returns large buffers to the system.
# See docs/performance.md.
ENV NODE_ENV=production REQUIRE_STORAGE=true \
  NODE_OPTIONS=--max-semi-space-size=8 MALLOC_MMAP_THRESHOLD_=1048576
COPY --from=modules /app/node_modules /app/node_modules
COPY package.json LICENSE /app/
COPY --from=build /app/dist /app/dist
RUN ln -s /app/dist/cli.js /usr/local/bin/voicemail-archiver
# A volume for those who keep queue or archive in files; nothing else is written to, so the root may be read-only.
WORKDIR /var/lib/voicemail-archiver
RUN chown 1000:1000 /var/lib/voicemail-archiver
# By number: a kubelet can't tell whether a user that is a name is root. It is the image's user `node`.
USER 1000:1000
VOLUME /var/lib/voicemail-archiver
EXPOSE 8080
# start, api and worker answer here. A HTTP_HOST that is neither 0.0.0.0 nor loopback needs a check of its own.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.HTTP_PORT || 8080}/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# Exec form: signals reach the program itself, so that a stop is a graceful one. Give it longer than SHUTDOWN_GRACE.
ENTRYPOINT ["node", "/app/dist/cli.js"]
CMD ["start"]
