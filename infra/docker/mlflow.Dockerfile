# The MLflow server, with what it needs for PostgreSQL and S3. From the root of the repository:
#     docker build -f infra/docker/mlflow.Dockerfile -t study-mlflow .
# infra/tracking/compose.yaml builds and runs it. Secrets come as files when it runs.
FROM python:3.11.14-slim-bookworm
WORKDIR /opt/tracking
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY constraints.txt ./
RUN pip install -c constraints.txt 'mlflow[auth]' 'psycopg[binary]' boto3 \
    && useradd --uid 1000 --create-home mlflow
COPY infra/tracking/first_time.py infra/tracking/secret_files.py infra/tracking/processes.py ./
ENV MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    AWS_EC2_METADATA_DISABLED=true
USER 1000
EXPOSE 5000
CMD ["mlflow", "server", "--app-name", "basic-auth", "--host", "0.0.0.0", "--port", "5000"]
