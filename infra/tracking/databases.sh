#!/bin/sh
# Run by PostgreSQL's image when its data folder is new: MLflow's user and two databases.
# The password goes by standard input, so that no process listing shows it.
set -eu
psql -v ON_ERROR_STOP=1 --username postgres --dbname postgres --quiet <<SQL
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';
CREATE ROLE mlflow LOGIN PASSWORD '$(cat /run/secrets/mlflow_database_password)';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
SQL
