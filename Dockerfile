# The application alone, for a pod: docs/KUBERNETES.md. It runs as nobody in particular, writes no file, and needs no shell.
#
#   docker build --tag my-vault-app .
#   docker run --read-only --user 65532:65532 --cap-drop ALL --env VAULT_ADDR --env VAULT_SECRET_ID my-vault-app
#
# BASE may be an image without a shell or pip, such as a distroless one with the same Python as BUILDER's.
ARG BUILDER=python:3.13-slim
ARG BASE=python:3.13-slim

FROM ${BUILDER} AS builder
# Where packages come from, if not from PyPI.
ARG PIP_INDEX_URL
COPY requirements.txt .
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--target=/packages", "--requirement=requirements.txt"]

FROM ${BASE}
ENV PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=builder /packages /packages
WORKDIR /application
COPY config.ini config_loader.py vault_client.py vault_app.py ./
COPY vaultkit vaultkit
COPY listeners listeners
COPY doctor doctor
USER 65532:65532
ENTRYPOINT ["python3", "/application/vault_app.py"]
