# The build stage keeps compilers, caches and the source tree out of the image.
FROM python:3.13-slim AS build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
# Dependencies first, so that this layer is rebuilt only if the lock changes.
COPY requirements/run.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY tools/long_description.py tools/
COPY alembic alembic
COPY src src
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
# Owned by root, so that an attacker in the process cannot change its code.
COPY --from=build /opt/venv /opt/venv
# The only folder that the process can write. A new named volume inherits its owner.
RUN install -d -o 10001 -g 10001 -m 0700 /data
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AUTHAPI_DATA_DIR=/data \
    AUTHAPI_HOST=0.0.0.0 \
    AUTHAPI_PORT=8000
USER 10001:10001
VOLUME /data
EXPOSE 8000
# http.client, because urllib would send the request through a configured proxy.
HEALTHCHECK --interval=30s --timeout=5s CMD ["python", "-c", "import os, http.client as http; c = http.HTTPConnection('127.0.0.1', int(os.environ['AUTHAPI_PORT']), timeout=3); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["authapi"]
CMD ["serve"]
