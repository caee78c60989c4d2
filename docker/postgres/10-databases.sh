#!/bin/sh
# Runs once, when the volume is empty: a role and a database each for tuner and MLflow; neither may enter the other's.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres << 'SQL'
\getenv tuner_password TUNER_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE ROLE tuner LOGIN PASSWORD :'tuner_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE tuner OWNER tuner;
CREATE DATABASE mlflow OWNER mlflow;
REVOKE CONNECT ON DATABASE tuner, mlflow FROM PUBLIC;
SQL
