# The gateway as an image: docker build -t seawall:0.1.0 .
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/build.txt requirements/harness.txt requirements/
RUN python -m venv /opt/seawall \
    && /opt/seawall/bin/pip install --no-cache-dir --require-hashes -r requirements/harness.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY . .
RUN /opt/build/bin/python -m build --wheel --no-isolation --outdir /dist \
    && /opt/seawall/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin seawall
COPY --from=build /opt/seawall /opt/seawall
ENV PATH=/opt/seawall/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["seawall"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
