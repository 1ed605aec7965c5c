# leveret in a container.
#
#   docker build -t leveret .
#   docker run --rm -v "$PWD/handlers/opsdesk:/handlers:ro" -p 127.0.0.1:9464:9464 \
#       -e RABBITMQ_URL=... -e DATABASE_URL=... -e REDIS_URL=... leveret
#
# The handlers are mounted at /handlers; a configuration of one's own at /etc/leveret/leveret.lua.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential cmake pkg-config librabbitmq-dev libpq-dev libhiredis-dev liblua5.4-dev \
        libcjson-dev libuv1-dev libcurl4-openssl-dev libmicrohttpd-dev libssl-dev nettle-dev
COPY . /src
RUN cmake -S /src -B /build -DCMAKE_BUILD_TYPE=Release -DLEVERET_TESTS=OFF \
    && cmake --build /build --target leveret --parallel "$(nproc)" \
    && strip /build/leveret

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        librabbitmq4 libssl3 libpq5 libhiredis0.14 liblua5.4-0 libcjson1 libuv1 libcurl4 libmicrohttpd12 \
        libnettle8 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /handlers /etc/leveret \
    && echo 'handlers = { "/handlers" }' > /etc/leveret/leveret.lua
COPY --from=build /build/leveret /usr/local/bin/leveret

# Inside the container only; which of the host's addresses it appears on is up to -p.
ENV LEVERET_ADMIN_LISTEN=0.0.0.0:9464
EXPOSE 9464
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${LEVERET_ADMIN_LISTEN##*:} && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -t 4 _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["leveret"]
CMD ["run", "-c", "/etc/leveret/leveret.lua"]
